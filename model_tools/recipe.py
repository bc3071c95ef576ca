"""What an export makes of the weights of its source."""

from dataclasses import dataclass
from enum import StrEnum

from model_tools.matrices import FloatFormat, IntegerFormat, MatrixFormat
from model_tools.quantise import BlockFormat


class WeightType(StrEnum):
    FP32 = "fp32"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def bits(self) -> int:
        return {WeightType.FP32: 32, WeightType.INT8: 8, WeightType.INT4: 4}[self]


class Target(StrEnum):
    """What a graph is made for."""

    CPU = "cpu"
    CUDA = "cuda"
    """Selection is part of the graph, and nothing in it leaves the device and comes back: CUDA
    graphs can be captured of it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The formats of a folder's matrices."""

    weights: WeightType
    block_size: int
    """Neighbouring integers that share a scale; has no meaning for floats.

    With 32, and int8 with 64, a row of activations gives the same bits whatever rows are beside it.
    Otherwise ONNX Runtime (1.32, AVX512-VNNI) multiplies rows in pairs, and an odd one differently.
    """
    target: Target = Target.CPU

    def layers(self) -> MatrixFormat:
        """The format of the matrices inside the layers."""
        return self._format(self.weights.bits)

    def vocabulary(self) -> MatrixFormat:
        """The format of the embedding and of the head.

        At least 8 bits: with int4 there SmolLM2-135M takes 87 MB instead of 100, but is nearly
        twice as far from its source (mean KL 0.27 instead of 0.15).
        """
        return self._format(max(8, self.weights.bits))

    def _format(self, bits: int) -> MatrixFormat:
        if self.weights is WeightType.FP32:
            return FloatFormat()
        return IntegerFormat(BlockFormat(bits, self.block_size))
