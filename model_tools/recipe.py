"""What to export: for which device, in which number formats, with which layout of the KV cache."""

from dataclasses import dataclass
from enum import StrEnum

import onnx_ir as ir

from model_tools.graph.matrices import INT8_ACTIVATIONS, FloatFormat, IntegerFormat, MatrixFormat
from model_tools.graph.writer import OPSET
from model_tools.weights.quantise import BlockFormat
from server.errors import StartError


class Target(StrEnum):
    """The device that a graph is made for."""

    CPU = "cpu"
    CUDA = "cuda"
    """The graph also selects the largest logits. Nothing in it leaves the device and comes back, so
    that it can be captured as a CUDA graph."""

    @property
    def opset(self) -> int:
        """The version of ONNX's operators.

        A kernel of ONNX Runtime that is registered without a last version serves only the version
        that it begins with. Some builds have CUDA's kernel for Pad from 18 on, and opset 21 has a
        later Pad: a node without a kernel would run on the CPU, and no call could be captured.
        """
        return {Target.CPU: OPSET, Target.CUDA: 18}[self]


class FloatType(StrEnum):
    """The float type that a graph computes in."""

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
    """The type of keys and values in the KV cache."""

    FLOAT = "float"
    """The type that the graph computes in."""
    INT8 = "int8"


class KvLayout(StrEnum):
    """How the KV cache of many sequences lies in memory."""

    SLOTS = "slots"
    """A slot for each sequence, as long as the context."""
    PAGES = "pages"
    """Pages that any sequence takes as it grows; sequences with a common prefix share some."""


class WeightType(StrEnum):
    """The type that matrices are stored in; a float type is the one that the graph computes in."""

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
"""The only one for ONNX Runtime's fast CUDA kernels (1.31), which take no zero points either."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The number formats of a folder, and the device that it is for."""

    weights: WeightType
    block_size: int
    """Neighbouring integers that share a scale; has no meaning for floats.

    With 32, and with 64 for int8, a row of activations gives the same bits whatever other rows are
    in the batch. Otherwise ONNX Runtime (1.32, AVX512-VNNI) multiplies rows in pairs, and the one
    left over in another way.
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
        """Takes the target's default for each None. Raises `StartError` if formats do not fit."""
        blocks: tuple[int, ...]
        if target is Target.CPU:
            supported, blocks = [FloatType.FP32], BLOCK_SIZES
            weights = weights or WeightType.INT8
        else:
            supported, blocks = [FloatType.FP16, FloatType.BF16], (CUDA_BLOCK_SIZE,)
            weights = weights or WeightType(activations or FloatType.FP16)
        if activations is None:
            activations = supported[0] if weights.is_integer else FloatType(weights)
        if activations not in supported:
            other = Target.CUDA if target is Target.CPU else Target.CPU
            raise StartError(
                f"--target {target} computes in {' or '.join(supported)}, not {activations}, which"
                f" is for --target {other}"
            )
        if not weights.is_integer:
            if str(weights) != str(activations):
                raise StartError(f"--weights {weights} and --activations {activations} do not fit")
            if block is not None:
                raise StartError(f"--block-size has no meaning for weights in {weights}")
        block = block or blocks[0]
        if block not in blocks:
            raise StartError(f"--target {target} has kernels for --block-size {blocks[0]} only")
        if kv_layout is KvLayout.PAGES and target is Target.CPU:
            raise StartError(f"--kv-layout {kv_layout} is for --target cuda; the CPU has no kernel")
        return cls(weights, block, target, activations, kv, kv_layout)

    @property
    def bits(self) -> int:
        """The bits of the narrowest numbers: weights, or keys and values."""
        return min(self.weights.bits, 8) if self.kv is KvType.INT8 else self.weights.bits

    def layers(self) -> MatrixFormat:
        """The format of the matrices inside the layers."""
        return self._format(self.weights.bits, self.block_size)

    def vocabulary(self) -> MatrixFormat:
        """The format of the embedding and of the head.

        It has at least 8 bits: with int4 here SmolLM2-135M takes 87 MB instead of 100, but is
        nearly twice as far from its source (mean KL 0.27 instead of 0.15). Its blocks are small:
        with int8 in blocks of 64 in the layers, blocks of 64 here too would give a mean KL of
        0.0041 instead of 0.0029.
        """
        return self._format(max(8, self.weights.bits), VOCABULARY_BLOCK_SIZE)

    def _format(self, bits: int, block_size: int) -> MatrixFormat:
        if not self.weights.is_integer:
            return FloatFormat()
        block_format = BlockFormat(bits, block_size, self.activations.onnx.numpy())
        on_cpu = self.target is Target.CPU
        return IntegerFormat(block_format, INT8_ACTIVATIONS if on_cpu else None)
