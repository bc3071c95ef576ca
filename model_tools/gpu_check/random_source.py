"""A model of a given shape with random weights: as fast and as large as a trained one.

Knows the decoder's spec and numpy. Weights are made when they are asked for, one layer at a time,
the same for the same name each time: nothing is kept.
"""

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from model_tools.decoder_spec import DecoderSpec, LayerWeights, Weights
from server.cores import usable_cores

_PIECE = 1 << 22
"""Numbers that one generator makes; the pieces of a matrix are made by all cores."""
_SHARPNESS = 4.0
"""Standard deviation of logits: with 1, the best of 100,000 would win by next to nothing, and
rounding would decide."""


@dataclass(frozen=True, slots=True)
class RandomSource:
    """`WeightSource`: matrices that keep the size of what goes through them, norms of 1."""

    spec: DecoderSpec
    seed: int = 0

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
        numbers = matrix.reshape(-1)
        factor = np.float32(scale * inputs**-0.5)

        def fill(piece: tuple[int, np.random.SeedSequence]) -> None:
            start, seed = piece
            part = numbers[start : start + _PIECE]
            np.random.default_rng(seed).standard_normal(dtype=np.float32, out=part)
            part *= factor

        with ThreadPoolExecutor(usable_cores()) as pool:
            for _ in pool.map(fill, self._pieces(name, matrix.size)):
                pass
        return matrix

    def _pieces(self, name: str, size: int) -> Iterator[tuple[int, np.random.SeedSequence]]:
        starts = range(0, size, _PIECE)
        seed = np.random.SeedSequence([self.seed, zlib.crc32(name.encode())])
        return zip(starts, seed.spawn(len(starts)), strict=True)
