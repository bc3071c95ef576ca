"""What is timed, in llama-bench's terms. Knows token ids and times; does not know engines."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Prompts = NDArray[np.int64]
"""Token ids, [streams, tokens]."""


@dataclass(frozen=True, slots=True)
class Workload:
    """`streams` sequences of random tokens, which run side by side past any end of text.

    As llama-bench's pp (reads a prompt), tg (generates) and pg (both), each after `depth` tokens
    that are not timed.
    """

    prompt_tokens: int
    new_tokens: int
    depth: int = 0
    streams: int = 1

    @property
    def name(self) -> str:
        parts = [f"pp{self.prompt_tokens}"] if self.prompt_tokens else []
        parts += [f"tg{self.new_tokens}"] if self.new_tokens else []
        streams = f" x{self.streams}" if self.streams > 1 else ""
        return "+".join(parts) + streams + (f" @ d{self.depth}" if self.depth else "")

    @property
    def tokens(self) -> int:
        """Tokens of all streams that a rate counts: prompt and new, without `depth`."""
        return (self.prompt_tokens + self.new_tokens) * self.streams

    @property
    def given(self) -> int:
        """Prompt tokens of each stream, with `depth`; at least 1, since a model needs one to start
        from."""
        return max(self.depth + self.prompt_tokens, 1)

    @property
    def context(self) -> int:
        """Tokens of one stream in all. One extra: the first new token may come before the clock
        starts."""
        return self.given + self.new_tokens + 1

    def prompts(self, vocabulary_size: int, seed: int) -> Prompts:
        """Random prompts, the same for the same seed. Each repetition needs its own seed, or a
        prefix cache would skip the reading."""
        shape = (self.streams, self.given)
        return np.random.default_rng(seed).integers(0, vocabulary_size, shape)


@dataclass(frozen=True, slots=True)
class Split:
    """Seconds of a run, by what they were spent on."""

    model: float
    """Inside ONNX Runtime."""
    sampling: float
    text: float
    """Turning tokens into text."""

    def __sub__(self, other: "Split") -> "Split":
        return Split(
            self.model - other.model, self.sampling - other.sampling, self.text - other.text
        )


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a workload took."""

    seconds: float
    split: Split | None = None
    """None if the runner does not measure it."""

    def __sub__(self, other: "Timing") -> "Timing":
        split = self.split - other.split if self.split and other.split else None
        return Timing(self.seconds - other.seconds, split)


class Runner(Protocol):
    """An engine with the model loaded."""

    @property
    def name(self) -> str: ...

    @property
    def setting(self) -> str:
        """The engine's settings in the last run, such as its threads."""

    def read(self, prompts: Prompts, new_tokens: int) -> Timing:
        """Times reading the prompts and generating `new_tokens` (1 or more) after each, from the
        prompts' arrival to the last token. Ignores the end of text, as `generate` does."""

    def generate(self, prompts: Prompts, new_tokens: int) -> Timing:
        """Times generating `new_tokens` for each prompt, once each has its first token."""


def time(runner: Runner, workload: Workload, prompts: Prompts) -> Timing:
    """Runs a workload once and returns how long it took."""
    if not workload.prompt_tokens:
        return runner.generate(prompts, workload.new_tokens)
    if not workload.depth:
        return runner.read(prompts, max(workload.new_tokens, 1))
    # An engine cannot be timed from the middle of a prompt, so the first `depth` tokens are timed
    # by themselves and subtracted; in reverse, so that no prefix cache has them.
    below = runner.read(prompts[:, : workload.depth][:, ::-1], 1)
    return runner.read(prompts, max(workload.new_tokens, 1)) - below
