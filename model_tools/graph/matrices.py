"""How a matrix is stored and multiplied with: as floats, or as blocks of integers.

Knows ONNX Runtime's operators for both; knows nothing of a decoder.
"""

from dataclasses import dataclass
from typing import Protocol

import onnx_ir as ir

from model_tools.decoder_spec import Weights
from model_tools.graph.node_writer import MICROSOFT
from model_tools.graph.writer import GraphWriter
from model_tools.weights.quantise import BlockFormat, quantise

INT8_ACTIVATIONS = 4
"""MatMulNBits' accuracy_level: activations are rounded to int8, several times faster than float."""


class Matrix(Protocol):
    """A stored matrix [outputs, inputs]."""

    def multiply(self, rows: ir.Value, name: str) -> ir.Value:
        """rows [..., inputs] times the transposed matrix: [..., outputs]."""

    def gather(self, indices: ir.Value, name: str) -> ir.Value:
        """The matrix's rows at these indices: [..., inputs]."""


class MatrixFormat(Protocol):
    """A way to store matrices."""

    def store(self, writer: GraphWriter, name: str, weights: Weights) -> Matrix:
        """Stores float32 [outputs, inputs]."""


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """Floats of the type that the graph computes in."""

    def store(self, writer: GraphWriter, name: str, weights: Weights) -> Matrix:
        return _FloatMatrix(writer, writer.floats(f"{name}.weight", weights))


@dataclass(frozen=True, slots=True)
class _FloatMatrix:
    writer: GraphWriter
    weight: ir.Value

    def multiply(self, rows: ir.Value, name: str) -> ir.Value:
        # Not MatMul, whose matrix is [inputs, outputs]: so an embedding can be the head as well.
        return self.writer.node(
            "FusedMatMul", name, [rows, self.weight], {"transB": 1}, domain=MICROSOFT
        )

    def gather(self, indices: ir.Value, name: str) -> ir.Value:
        return self.writer.node("Gather", name, [self.weight, indices])


@dataclass(frozen=True, slots=True)
class IntegerFormat:
    """Blocks of small integers."""

    block_format: BlockFormat
    accuracy_level: int | None = None
    """MatMulNBits' precision for activations; None leaves it to the kernels."""

    def store(self, writer: GraphWriter, name: str, weights: Weights) -> Matrix:
        quantised = quantise(weights, self.block_format)
        outputs, inputs = weights.shape
        return _IntegerMatrix(
            writer,
            self.block_format,
            outputs,
            inputs,
            self.accuracy_level,
            integers=writer.weight(f"{name}.integers", quantised.integers),
            scales=writer.floats(f"{name}.scales", quantised.scales),
        )


@dataclass(frozen=True, slots=True)
class _IntegerMatrix:
    writer: GraphWriter
    block_format: BlockFormat
    outputs: int
    inputs: int
    accuracy_level: int | None
    integers: ir.Value
    scales: ir.Value

    def multiply(self, rows: ir.Value, name: str) -> ir.Value:
        attributes = {
            "K": self.inputs,
            "N": self.outputs,
            "bits": self.block_format.bits,
            "block_size": self.block_format.block_size,
        }
        if self.accuracy_level is not None:
            attributes["accuracy_level"] = self.accuracy_level
        inputs = [rows, self.integers, self.scales]
        return self.writer.node("MatMulNBits", name, inputs, attributes, domain=MICROSOFT)

    def gather(self, indices: ir.Value, name: str) -> ir.Value:
        attributes = {
            "bits": self.block_format.bits,
            "block_size": self.block_format.block_size,
            "gather_axis": 0,
            "quantize_axis": 1,
        }
        padded = self.block_format.blocks(self.inputs) * self.block_format.block_size
        row_bytes = padded * self.block_format.bits // 8
        table = self.writer.reshaped(self.integers, f"{name}.table", (self.outputs, row_bytes))
        inputs = [table, indices, self.scales]
        if padded == self.inputs:
            return self.writer.node(
                "GatherBlockQuantized", name, inputs, attributes, domain=MICROSOFT
            )
        rows = self.writer.node(
            "GatherBlockQuantized", f"{name}.padded", inputs, attributes, domain=MICROSOFT
        )
        return self.writer.slice(name, rows, axis=-1, start=0, end=self.inputs)
