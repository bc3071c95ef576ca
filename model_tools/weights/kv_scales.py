"""Keys and values as 8-bit integers: a measured scale for each layer, the same for both.

ONNX Runtime's fast kernel for few rows on CUDA (XQA) takes keys and values of one scale only, and
some channels of keys are far larger than all others. So channels are multiplied, and what reads
them is divided, which changes nothing but the rounding. Values become as large as keys, head by
head. Each rotary pair of keys comes half as far from the largest one, in logarithms: not nearer,
since other texts have larger keys than those that are measured.

Mean KL of SmolLM2-135M with 8-bit weights over some 2,000 tokens, 0.0042 of it from the weights:
0.0113 with one factor for all values, 0.0107 with one for each head, 0.0081 and 0.0088 with the
square roots for keys, too, and 0.0100 with whole factors for them.

Knows the structure of a layer; knows no formats and no graph.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_tools.decoder_spec import DecoderSpec, LayerWeights, Weights, WeightSource
from model_tools.verification.reference import Rows, Tokens, run_layers

LARGEST = 127
FLOOR = 1e-5
"""The least peak, for keys or values that are all zeros."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """The largest magnitudes in one layer, each at least `FLOOR`."""

    keys: Weights
    """Of each head's rotary pairs, [kv_heads, head_dim / 2]."""
    values: Weights
    """Of each head, [kv_heads, 1]."""

    @classmethod
    def of(cls, spec: DecoderSpec, keys: Rows, values: Rows) -> "Peaks":
        """From keys and values [n, kv_heads * head_dim]."""
        pairs = np.abs(keys).reshape(len(keys), spec.kv_heads, -1, 2)
        heads = np.abs(values).reshape(len(values), spec.kv_heads, -1)
        by_pair, by_head = pairs.max((0, 3)), heads.max((0, 2))[:, None]
        return cls(np.maximum(by_pair, FLOOR), np.maximum(by_head, FLOOR))

    @property
    def largest(self) -> np.float32:
        """The largest magnitude after multiplication, of keys and of values."""
        return np.float32(self.keys.max())

    @property
    def key_factors(self) -> Weights:
        """What each pair is multiplied by."""
        factors: Weights = np.sqrt(self.largest / self.keys)
        return factors

    @property
    def value_factors(self) -> Weights:
        """What each head is multiplied by."""
        return self.largest / self.values


@dataclass(frozen=True, slots=True)
class BalancedSource:
    """The same model with its keys and values multiplied. Satisfies `WeightSource`."""

    source: WeightSource
    peaks: Sequence[Peaks]

    @property
    def spec(self) -> DecoderSpec:
        return self.source.spec

    @property
    def scales(self) -> tuple[float, ...]:
        """The scale of each layer: what an integer of 1 stands for."""
        return tuple(float(peaks.largest) / LARGEST for peaks in self.peaks)

    def embedding(self) -> Weights:
        return self.source.embedding()

    def layer(self, index: int) -> LayerWeights:
        layer, peaks = self.source.layer(index), self.peaks[index]
        keys = np.repeat(peaks.key_factors, 2, axis=1)
        values = np.repeat(peaks.value_factors, self.spec.head_dim, axis=1)
        # Each head of keys and values is read by the query heads of its group.
        group = self.spec.attention_heads // self.spec.kv_heads
        queries, outputs = (np.repeat(each, group, axis=0) for each in (keys, values))
        return replace(
            layer,
            q=layer.q / queries.reshape(-1, 1),
            k=layer.k * keys.reshape(-1, 1),
            v=layer.v * values.reshape(-1, 1),
            o=layer.o / outputs.reshape(1, -1),
        )

    def final_norm(self) -> Weights:
        return self.source.final_norm()

    def head(self) -> Weights:
        return self.source.head()


def balanced(
    source: WeightSource, texts: Sequence[Tokens], layer_done: Callable[[], None]
) -> BalancedSource:
    """Measures peaks over the texts, with one layer's weights in memory at a time."""
    peaks = []
    for run in run_layers(source, texts):
        peaks.append(Peaks.of(source.spec, run.keys, run.values))
        layer_done()
    return BalancedSource(source, peaks)
