"""Keys and values as 8-bit integers: a measured scale for each layer, the same for both.

ONNX Runtime's fast kernel for few rows (XQA) takes keys and values of one scale only. Keys are by
far the larger ones: with their scale for both, the values of SmolLM2-135M lose most of their
precision (mean KL 0.027 over 646 tokens). So v is multiplied to make values as large as keys, and
o, which reads them, is divided: that changes nothing but the rounding (mean KL 0.0037, as with a
scale for keys and one for values; with a scale for each channel, 0.0047).

Knows the structure of a layer; knows no formats and no graph.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_tools.decoder_spec import DecoderSpec, LayerWeights, Weights, WeightSource
from model_tools.verification.reference import Tokens, run_layers

LARGEST = 127
FLOOR = 1e-5
"""The least peak, for a layer whose keys or values are all zeros."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """The largest magnitudes in one layer."""

    keys: float
    values: float

    @property
    def factor(self) -> np.float32:
        """The factor that makes values as large as keys."""
        return np.float32(max(self.keys, FLOOR) / max(self.values, FLOOR))


@dataclass(frozen=True, slots=True)
class BalancedSource:
    """The same model with values as large as keys. Satisfies `WeightSource`."""

    source: WeightSource
    peaks: Sequence[Peaks]

    @property
    def spec(self) -> DecoderSpec:
        return self.source.spec

    @property
    def scales(self) -> tuple[float, ...]:
        """The scale of each layer: what an integer of 1 stands for."""
        return tuple(max(peaks.keys, FLOOR) / LARGEST for peaks in self.peaks)

    def embedding(self) -> Weights:
        return self.source.embedding()

    def layer(self, index: int) -> LayerWeights:
        layer, factor = self.source.layer(index), self.peaks[index].factor
        return replace(layer, v=layer.v * factor, o=layer.o / factor)

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
        peaks.append(Peaks(float(np.abs(run.keys).max()), float(np.abs(run.values).max())))
        layer_done()
    return BalancedSource(source, peaks)
