"""The attention node of each layer, and the inputs that all layers share.

Knows ONNX Runtime's two operators for it, and the KV layout of each: a slot for each sequence, or
pages that any sequence may hold. Does not know the layers around it.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import onnx_ir as ir

from model_tools.decoder_spec import DecoderSpec
from model_tools.graph.node_writer import MICROSOFT, Attributes, Shape
from model_tools.graph.rotary import cosines_and_sines
from model_tools.graph.writer import GraphWriter
from server.model.graph_interface import PAGE_TOKENS

INT64, INT32 = ir.DataType.INT64, ir.DataType.INT32

Inputs = list[ir.Value | None]


class Attention(Protocol):
    """Adds nodes that append new keys and values to the KV cache, in place, and attend to all of
    it."""

    def attend(self, index: int, name: str, qkv: ir.Value) -> ir.Value:
        """Returns the attention of the layer's packed q, k and v; adds its inputs `past_key_values`
        and its outputs `present`."""


class KvBuffers:
    """The KV cache as inputs and outputs of a graph, in floats or in int8."""

    def __init__(
        self, writer: GraphWriter, shape: Shape, scales: Sequence[float] | None = None
    ) -> None:
        """`scales` has one for each layer's keys and values in int8; None keeps them as floats."""
        self._writer = writer
        self._shape = shape
        self._scales = scales
        self._type = writer.float_type if scales is None else ir.DataType.INT8

    def past(self, index: int) -> Inputs:
        """Adds the inputs of a layer's keys and values."""
        names = [f"past_key_values.{index}.{kind}" for kind in ("key", "value")]
        return [self._writer.input(name, self._type, self._shape) for name in names]

    def attend(
        self, operator: str, index: int, name: str, inputs: Inputs, attributes: Attributes
    ) -> ir.Value:
        """Adds the node and the outputs of the layer's keys and values; returns the attention."""
        outputs = [name, f"present.{index}.key", f"present.{index}.value"]
        attended, *present = self._writer.nodes(
            operator, outputs, inputs, attributes, domain=MICROSOFT
        )
        for value in present:
            self._writer.output(value, self._shape, self._type)
        return attended

    def scales(self, index: int, name: str) -> tuple[Inputs, Attributes]:
        """The operator's inputs and attributes for keys and values that are integers."""
        if self._scales is None:
            return [None, None], {}
        # One tensor for both, or the fastest kernel does not take them.
        scale = self._writer.weight(f"{name}.kv_scale", np.array([self._scales[index]], np.float32))
        kind = "PER_TENSOR"
        return [scale, scale], {"k_quant_type": kind, "v_quant_type": kind}


class SlotAttention:
    """GroupQueryAttention, over [batch, kv_heads, capacity, head_dim]."""

    def __init__(
        self, spec: DecoderSpec, writer: GraphWriter, kv_scales: Sequence[float] | None
    ) -> None:
        self._heads = _heads(spec)
        mask = writer.input("attention_mask", INT64, ["batch", "total"])
        lengths = _sequence_lengths(writer, mask)
        self._shared: Inputs = [*lengths, *_rotary(spec, writer)]
        self._kv = KvBuffers(writer, ("batch", spec.kv_heads, "capacity", spec.head_dim), kv_scales)

    def attend(self, index: int, name: str, qkv: ir.Value) -> ir.Value:
        past = self._kv.past(index)
        scales, quantisation = self._kv.scales(index, name)
        inputs = [qkv, None, None, *past, *self._shared]
        if quantisation:
            inputs += [None, None, None, *scales]
            quantisation = {**quantisation, "kv_cache_bit_width": 8}
        attributes = {**self._heads, **quantisation}
        return self._kv.attend("GroupQueryAttention", index, name, inputs, attributes)


class PagedAttention:
    """PagedAttention, over [pages, PAGE_TOKENS, kv_heads, head_dim], for tokens [n]: those of all
    sequences, concatenated. Inputs have the names that ONNX Runtime GenAI's engine uses.
    """

    def __init__(
        self, spec: DecoderSpec, writer: GraphWriter, kv_scales: Sequence[float] | None
    ) -> None:
        self._heads = _heads(spec)
        self._shared: Inputs = [
            writer.input("cumulative_sequence_lengths", INT32, ["batch + 1"]),
            writer.input("past_sequence_lengths", INT32, ["batch"]),
            writer.input("block_table", INT32, ["batch", "most_pages"]),
        ]
        # On the host: bounds of the lengths. Without them, each node would fetch the lengths.
        self._bounds = writer.input("attention_metadata", INT32, [3])
        self._shared += _rotary(spec, writer)
        shape = ("num_blocks", PAGE_TOKENS, spec.kv_heads, spec.head_dim)
        self._kv = KvBuffers(writer, shape, kv_scales)

    def attend(self, index: int, name: str, qkv: ir.Value) -> ir.Value:
        past = self._kv.past(index)
        scales, quantisation = self._kv.scales(index, name)
        unused: Inputs = [None] * 4  # where to write, a sink, and two norms
        inputs = [qkv, None, None, *past, *self._shared, *unused, *scales, self._bounds]
        attributes = {**self._heads, **quantisation}
        return self._kv.attend("PagedAttention", index, name, inputs, attributes)


def _sequence_lengths(writer: GraphWriter, mask: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Returns, for a mask [batch, total], each row's last position, past and new, int32 [batch];
    and `total`, int32 scalar."""
    one = writer.constant("one", 1)
    total_axis = writer.constant("total_axis", [1])
    counts = writer.node("ReduceSum", "token_counts", [mask, total_axis], {"keepdims": 0})
    last_positions = writer.node("Sub", "last_positions.int64", [counts, one])
    shape = writer.node("Shape", f"{mask.name}.shape", [mask])
    total_length = writer.node("Gather", "total_length.int64", [shape, one])
    return (
        writer.node("Cast", "last_positions", [last_positions], {"to": INT32}),
        writer.node("Cast", "total_length", [total_length], {"to": INT32}),
    )


def _heads(spec: DecoderSpec) -> Attributes:
    """Attributes that both operators have."""
    return {"num_heads": spec.attention_heads, "kv_num_heads": spec.kv_heads, "do_rotary": 1}


def _rotary(spec: DecoderSpec, writer: GraphWriter) -> Inputs:
    cosines, sines = cosines_and_sines(spec.rotary, spec.context_length)
    return [writer.floats("rotary.cosines", cosines), writer.floats("rotary.sines", sines)]
