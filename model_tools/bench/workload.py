"""What is timed, in llama-bench's terms. Knows nothing of engines."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Prompts = NDArray[np.int64]
"""Token ids, [streams, prompt_tokens]."""


@dataclass(frozen=True, slots=True)
class Workload:
    """`streams` prompts of random tokens, continued side by side whatever the model says."""

    prompt_tokens: int
    new_tokens: int
    """For each stream; the first of them comes from the call that ends its prompt."""
    streams: int = 1

    @classmethod
    def reading(cls, tokens: int) -> "Workload":
        """pp: a prompt, and the one token without which nobody reads a prompt."""
        return cls(prompt_tokens=tokens, new_tokens=1)

    @classmethod
    def generating(cls, tokens: int, streams: int) -> "Workload":
        """tg: new tokens from an empty context, that is after one token."""
        return cls(prompt_tokens=1, new_tokens=tokens, streams=streams)

    @property
    def name(self) -> str:
        if self.new_tokens == 1:
            return f"pp{self.prompt_tokens}"
        return f"tg{self.new_tokens}" + (f" x{self.streams}" if self.streams > 1 else "")

    @property
    def tokens(self) -> int:
        """What a rate counts: tokens through the model, of prompts or of answers."""
        return max(self.prompt_tokens, self.new_tokens) * self.streams

    @property
    def context(self) -> int:
        """Tokens of one stream, prompt and answer together."""
        return self.prompt_tokens + self.new_tokens

    def prompts(self, vocabulary_size: int) -> Prompts:
        """The same on every call."""
        shape = (self.streams, self.prompt_tokens)
        return np.random.default_rng(0).integers(0, vocabulary_size, shape)


class Runner(Protocol):
    """An engine with the model loaded."""

    @property
    def name(self) -> str: ...

    def run(self, prompts: Prompts, new_tokens: int) -> float:
        """Continues each prompt by so many tokens, greedily; seconds from the first call to the
        last token."""
