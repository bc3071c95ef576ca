"""A model of a given shape with random weights: as fast and as large as a trained one.

Knows the decoder's spec and numpy. Weights are made when they are asked for, one layer at a time;
the same name gives the same weights each time. Drawing eight billion numbers takes minutes: a few
are drawn, and each matrix reads them from an offset of its own.
"""

import functools
import zlib
from dataclasses import dataclass

import numpy as np

from model_tools.decoder_spec import DecoderSpec, LayerWeights, Weights
from model_tools.weights.slabs import by_slabs

_DRAWN = (1 << 24) + 43
"""A prime, so no multiple of a row's length: where numbers repeat, rows still differ."""
_SHARPNESS = 4.0
"""Standard deviation of logits: with 1, the best of 100,000 would win by next to nothing, and
rounding would decide."""


@dataclass(frozen=True, slots=True)
class RandomSource:
    """Satisfies `WeightSource`: matrices preserve the size of activations, and norms are 1."""

    spec: DecoderSpec

    def embedding(self) -> Weights:
        scale = _SHARPNESS if self.spec.tied_embedding else 1.0
        return self._matrix("embedding", self.spec.vocabulary_size, self.spec.hidden_size, scale)

    def head(self) -> Weights:
        if self.spec.tied_embedding:
            return self.embedding()
        size = (self.spec.vocabulary_size, self.spec.hidden_size)
        return self._matrix("head", *size, _SHARPNESS)

    def final_norm(self) -> Weights:
        return np.ones(self.spec.hidden_size, np.float32)

    def layer(self, index: int) -> LayerWeights:
        spec = self.spec
        hidden, inner = spec.hidden_size, spec.intermediate_size
        queries, keys = spec.attention_heads * spec.head_dim, spec.kv_heads * spec.head_dim

        def matrix(name: str, outputs: int, inputs: int) -> Weights:
            return self._matrix(f"{index}.{name}", outputs, inputs)

        return LayerWeights(
            attention_norm=np.ones(hidden, np.float32),
            q=matrix("q", queries, hidden),
            k=matrix("k", keys, hidden),
            v=matrix("v", keys, hidden),
            o=matrix("o", hidden, queries),
            feed_forward_norm=np.ones(hidden, np.float32),
            gate=matrix("gate", inner, hidden),
            up=matrix("up", inner, hidden),
            down=matrix("down", hidden, inner),
        )

    def _matrix(self, name: str, outputs: int, inputs: int, scale: float = 1.0) -> Weights:
        matrix = np.empty((outputs, inputs), np.float32)
        drawn, factor = _drawn(), np.float32(scale * inputs**-0.5)
        first = zlib.crc32(name.encode())

        def fill(rows: slice) -> None:
            part = matrix[rows].reshape(-1)
            start, done = (first + rows.start * inputs) % _DRAWN, 0
            while done < part.size:
                numbers = drawn[start : start + part.size - done]
                np.multiply(numbers, factor, out=part[done : done + numbers.size])
                start, done = 0, done + numbers.size

        by_slabs(fill, outputs)
        return matrix


@functools.cache
def _drawn() -> Weights:
    return np.random.default_rng(0).standard_normal(_DRAWN, dtype=np.float32)
