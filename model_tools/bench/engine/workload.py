"""What is timed, in llama-bench's terms. Knows nothing of engines."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Prompts = NDArray[np.int64]
"""Token ids, [streams, tokens]."""


@dataclass(frozen=True, slots=True)
class Workload:
    """`streams` sequences of random tokens, continued side by side whatever the model says.

    pp reads a prompt, tg generates, pg does both; each on top of `depth` tokens that were read
    before the clock starts.
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
        """What a rate counts: tokens through the model while the clock runs."""
        return (self.prompt_tokens + self.new_tokens) * self.streams

    @property
    def given(self) -> int:
        """Tokens that each stream is given; one where it would be none, since a model continues
        nothing but text."""
        return max(self.depth + self.prompt_tokens, 1)

    @property
    def context(self) -> int:
        """Tokens of one stream in all; the first new one may come before the clock starts."""
        return self.given + self.new_tokens + 1

    def prompts(self, vocabulary_size: int, seed: int) -> Prompts:
        """The same for the same seed. Each repetition needs its own, or a prefix cache would
        read nothing."""
        shape = (self.streams, self.given)
        return np.random.default_rng(seed).integers(0, vocabulary_size, shape)


@dataclass(frozen=True, slots=True)
class Split:
    """Seconds by what they were spent on."""

    model: float
    """Inside ONNX Runtime."""
    sampling: float
    text: float
    """Tokens to text."""

    def __sub__(self, other: "Split") -> "Split":
        return Split(
            self.model - other.model, self.sampling - other.sampling, self.text - other.text
        )


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a workload took."""

    seconds: float
    split: Split | None = None
    """None where a runner does not know."""

    def __sub__(self, other: "Timing") -> "Timing":
        split = self.split - other.split if self.split and other.split else None
        return Timing(self.seconds - other.seconds, split)


class Runner(Protocol):
    """An engine with the model loaded."""

    @property
    def name(self) -> str: ...

    @property
    def setting(self) -> str:
        """What it was set to in its last run."""

    def read(self, prompts: Prompts, new_tokens: int) -> Timing:
        """From the prompts' arrival to the last of so many tokens, 1 or more, after each of them.
        The end of text is ignored, as by `generate`."""

    def generate(self, prompts: Prompts, new_tokens: int) -> Timing:
        """So many tokens for each prompt, from when each has one already."""


def time(runner: Runner, workload: Workload, prompts: Prompts) -> Timing:
    """One run of a workload."""
    if not workload.prompt_tokens:
        return runner.generate(prompts, workload.new_tokens)
    if not workload.depth:
        return runner.read(prompts, max(workload.new_tokens, 1))
    # No engine's clock stops in the middle of a prompt, so what lies below is read by itself and
    # its time taken away; backwards, so that no prefix cache knows it.
    below = runner.read(prompts[:, : workload.depth][:, ::-1], 1)
    return runner.read(prompts, max(workload.new_tokens, 1)) - below
