"""One layer of the decoder as nodes of a graph.

Knows the decoder's arithmetic and ONNX Runtime's operators for it. This form was the fastest: one
multiplication for q, k and v, one for gate and up, rotary embedding inside attention's operator.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from model_tools.decoder_spec import DecoderSpec, LayerWeights, Weights
from model_tools.graph.attention import Attention
from model_tools.graph.matrices import MatrixFormat
from model_tools.graph.node_writer import MICROSOFT
from model_tools.graph.rotary import half_rotated
from model_tools.graph.writer import GraphWriter

Keep = Callable[[str, ir.Value], ir.Value]
"""Takes the name of a new value and a value; returns the rows that are still needed."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Hidden states between two layers, [..., hidden], as a sum of two terms.

    The next normalisation adds them, in one operator.
    """

    residual: ir.Value
    branch: ir.Value | None = None
    """None before the first layer."""


@dataclass(frozen=True, slots=True)
class LayerBuilder:
    """Adds layers to a graph."""

    spec: DecoderSpec
    matrix_format: MatrixFormat
    writer: GraphWriter
    attention: Attention

    def layer(
        self, index: int, weights: LayerWeights, stream: Stream, keep: Keep | None = None
    ) -> Stream:
        """Adds a layer with its inputs `past_key_values` and its outputs `present`.

        `keep` selects the rows that are still needed after the last layer's attention.
        """
        name = f"layers.{index}"
        normed, residual = self.normalise(f"{name}.attention_norm", weights.attention_norm, stream)
        attended = self._attention(index, f"{name}.attention", weights, normed)
        if keep:
            attended, residual = keep("kept.attended", attended), keep("kept.residual", residual)
        stream = Stream(residual, self._multiply(f"{name}.attention.o", weights.o, attended))
        normed, residual = self.normalise(
            f"{name}.feed_forward_norm", weights.feed_forward_norm, stream
        )
        return Stream(residual, self._feed_forward(f"{name}.feed_forward", weights, normed))

    def normalise(self, name: str, weight: Weights, stream: Stream) -> tuple[ir.Value, ir.Value]:
        """Returns the stream's sum, normalised (RMS) and as it is."""
        gamma = self.writer.floats(f"{name}.weight", weight)
        epsilon = {"epsilon": self.spec.rms_epsilon}
        if stream.branch is None:
            inputs = [stream.residual, gamma]
            normed = self.writer.node("SimplifiedLayerNormalization", name, inputs, epsilon)
            return normed, stream.residual
        normed, _, _, residual = self.writer.nodes(
            "SkipSimplifiedLayerNormalization",
            [name, "", "", f"{name}.sum"],
            [stream.residual, stream.branch, gamma],
            epsilon,
            domain=MICROSOFT,
        )
        return normed, residual

    def _multiply(self, name: str, weights: Weights, rows: ir.Value) -> ir.Value:
        return self.matrix_format.store(self.writer, name, weights).multiply(rows, name)

    def _attention(
        self, index: int, name: str, weights: LayerWeights, hidden: ir.Value
    ) -> ir.Value:
        q, k = (half_rotated(rows, self.spec.head_dim) for rows in (weights.q, weights.k))
        qkv = self._multiply(f"{name}.qkv", np.concatenate([q, k, weights.v]), hidden)
        return self.attention.attend(index, name, qkv)

    def _feed_forward(self, name: str, weights: LayerWeights, hidden: ir.Value) -> ir.Value:
        both = self._multiply(f"{name}.gate_up", np.concatenate([weights.gate, weights.up]), hidden)
        gate, up = self.writer.nodes(
            "Split", [f"{name}.gate", f"{name}.up"], [both], {"axis": -1, "num_outputs": 2}
        )
        # SiLU, for which ONNX Runtime has no operator of its own on the CPU.
        active = self.writer.node(
            "QuickGelu", f"{name}.silu", [gate], {"alpha": 1.0}, domain=MICROSOFT
        )
        product = self.writer.node("Mul", f"{name}.product", [active, up])
        return self._multiply(f"{name}.down", weights.down, product)
