"""What an export makes of its source: for what, and in which numbers."""

from dataclasses import dataclass
from enum import StrEnum

import onnx_ir as ir

from model_tools.graph.matrices import INT8_ACTIVATIONS, FloatFormat, IntegerFormat, MatrixFormat
from model_tools.graph.writer import OPSET
from model_tools.weights.quantise import BlockFormat
from server.errors import StartError


class Target(StrEnum):
    """What a graph is made for."""

    CPU = "cpu"
    CUDA = "cuda"
    """Selection is part of the graph, and nothing in it leaves the device and comes back: CUDA
    graphs can be captured of it."""

    @property
    def opset(self) -> int:
        """ONNX's. A kernel of ONNX Runtime without an end serves the version of its operator that
        it began with and no later one; some ONNX Runtimes have CUDA's for Pad from 18 on, and opset
        21 has later ones: a node without a kernel there would run on the CPU, and no call could be
        captured."""
        return {Target.CPU: OPSET, Target.CUDA: 18}[self]


class FloatType(StrEnum):
    """What a graph computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"

    @property
    def onnx(self) -> ir.DataType:
        return {
            FloatType.FP32: ir.DataType.FLOAT,
            FloatType.FP16: ir.DataType.FLOAT16,
            FloatType.BF16: ir.DataType.BFLOAT16,
        }[self]

    @property
    def torch(self) -> str:
        """Its name in the documents of `transformers`."""
        return {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[self]


class KvType(StrEnum):
    """What keys and values are kept as."""

    FLOAT = "float"
    """As what is computed in."""
    INT8 = "int8"


class KvLayout(StrEnum):
    """How the keys and values of many sequences lie in memory."""

    SLOTS = "slots"
    """A piece for each sequence, as long as the context."""
    PAGES = "pages"
    """Pages for any sequence, taken as it grows and shared by those that begin alike."""


class WeightType(StrEnum):
    """What matrices are stored as; floats are those that the graph computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def bits(self) -> int:
        return {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "int4": 4}[self]

    @property
    def is_integer(self) -> bool:
        return self in (WeightType.INT8, WeightType.INT4)


BLOCK_SIZES = (32, 64, 128)
"""The first is the default."""
VOCABULARY_BLOCK_SIZE = 32
CUDA_BLOCK_SIZE = 32
"""The only one of ONNX Runtime's fast kernels for CUDA (1.31), which take no zero points either."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The formats of a folder's matrices, and what is computed with them."""

    weights: WeightType
    block_size: int
    """Neighbouring integers that share a scale; has no meaning for floats.

    With 32, and int8 with 64, a row of activations gives the same bits whatever rows are beside it.
    Otherwise ONNX Runtime (1.32, AVX512-VNNI) multiplies rows in pairs, and an odd one differently.
    """
    target: Target = Target.CPU
    activations: FloatType = FloatType.FP32
    kv: KvType = KvType.FLOAT
    kv_layout: KvLayout = KvLayout.SLOTS

    @classmethod
    def of(
        cls,
        target: Target,
        weights: WeightType | None,
        activations: FloatType | None,
        block: int | None,
        kv: KvType = KvType.FLOAT,
        kv_layout: KvLayout = KvLayout.SLOTS,
    ) -> "Recipe":
        """What was said, and the target's defaults where nothing was. Raises `StartError`."""
        blocks: tuple[int, ...]
        if target is Target.CPU:
            able, blocks = [FloatType.FP32], BLOCK_SIZES
            weights = weights or WeightType.INT8
        else:
            able, blocks = [FloatType.FP16, FloatType.BF16], (CUDA_BLOCK_SIZE,)
            weights = weights or WeightType(activations or FloatType.FP16)
        if activations is None:
            activations = able[0] if weights.is_integer else FloatType(weights)
        if activations not in able:
            other = Target.CUDA if target is Target.CPU else Target.CPU
            raise StartError(
                f"--target {target} computes in {' or '.join(able)}, not {activations}, which is"
                f" for --target {other}"
            )
        if not weights.is_integer:
            if str(weights) != str(activations):
                raise StartError(f"--weights {weights} and --activations {activations} do not fit")
            if block is not None:
                raise StartError(f"--block-size has no meaning for weights in {weights}")
        block = block or blocks[0]
        if block not in blocks:
            raise StartError(f"--target {target} has kernels for --block-size {blocks[0]} only")
        if kv is KvType.INT8 and target is Target.CPU:
            raise StartError(f"--kv {kv} is for --target cuda; on the CPU it reads prompts slowly")
        if kv_layout is KvLayout.PAGES and target is Target.CPU:
            raise StartError(f"--kv-layout {kv_layout} is for --target cuda; the CPU has no kernel")
        return cls(weights, block, target, activations, kv, kv_layout)

    def layers(self) -> MatrixFormat:
        """The format of the matrices inside the layers."""
        return self._format(self.weights.bits, self.block_size)

    def vocabulary(self) -> MatrixFormat:
        """The format of the embedding and of the head.

        At least 8 bits: with int4 there SmolLM2-135M takes 87 MB instead of 100, but is nearly
        twice as far from its source (mean KL 0.27 instead of 0.15). And small blocks: with int8 in
        blocks of 64 in the layers, blocks of 64 there too would give 0.0041 instead of 0.0029.
        """
        return self._format(max(8, self.weights.bits), VOCABULARY_BLOCK_SIZE)

    def _format(self, bits: int, block_size: int) -> MatrixFormat:
        if not self.weights.is_integer:
            return FloatFormat()
        block_format = BlockFormat(bits, block_size, self.activations.onnx.numpy())
        on_cpu = self.target is Target.CPU
        return IntegerFormat(block_format, INT8_ACTIVATIONS if on_cpu else None)
