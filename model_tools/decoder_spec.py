"""A decoder-only model in numbers: what weight sources provide and graphs are built from.

Knows numpy only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RotarySpec:
    """Rotary position embedding: pair j of a head turns by position * frequency[j]."""

    base: float
    head_dim: int
    """All dimensions of a head rotate, in pairs: an even number."""
    linear_factor: float = 1.0
    """Positions are divided by this (linear scaling)."""
    frequency_factors: tuple[float, ...] | None = None
    """Divides frequency j (Llama 3's `rope_freqs`), length head_dim / 2."""

    def frequencies(self) -> NDArray[np.float64]:
        """Radians per position of each pair, shape [head_dim / 2]."""
        pairs = np.arange(0, self.head_dim, 2, dtype=np.float64)
        frequencies = self.base ** (-pairs / self.head_dim) / self.linear_factor
        if self.frequency_factors is not None:
            frequencies = frequencies / np.asarray(self.frequency_factors, dtype=np.float64)
        return frequencies


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """A Llama-shaped decoder."""

    layers: int
    hidden_size: int
    intermediate_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    vocabulary_size: int
    context_length: int
    rms_epsilon: float
    rotary: RotarySpec
    tied_embedding: bool
    """The head is the embedding, transposed."""


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer, float32; a matrix is [outputs, inputs].

    q and k rows are in the source's own order: rotary pair j of a head is rows 2j and 2j + 1
    (interleaved, as GGUF stores Llama).
    """

    attention_norm: Weights
    q: Weights
    k: Weights
    v: Weights
    o: Weights
    feed_forward_norm: Weights
    gate: Weights
    up: Weights
    down: Weights


class WeightSource(Protocol):
    """Weights, dequantised when asked for, so that one layer at a time is in memory."""

    @property
    def spec(self) -> DecoderSpec: ...

    def embedding(self) -> Weights:
        """[vocabulary, hidden]."""

    def layer(self, index: int) -> LayerWeights: ...

    def final_norm(self) -> Weights:
        """[hidden]."""

    def head(self) -> Weights:
        """[vocabulary, hidden]; the embedding where the two are tied."""


def each_layer(source: WeightSource) -> Iterator[LayerWeights]:
    """Every layer in order, one in memory at a time."""
    for index in range(source.spec.layers):
        yield source.layer(index)
