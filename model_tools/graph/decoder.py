"""The decoder as an ONNX graph, with the inputs and outputs of ONNX Runtime GenAI's own exports.

Knows how tokens become logits around the layers; knows no source's file format.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from model_tools.decoder_spec import DecoderSpec, WeightSource
from model_tools.graph.attention import Attention, PagedAttention, SlotAttention
from model_tools.graph.layer import Keep, LayerBuilder, Stream
from model_tools.graph.matrices import Matrix
from model_tools.graph.selection import add_selection
from model_tools.graph.writer import GraphWriter
from model_tools.recipe import KvLayout, Recipe, Target
from server.errors import StartError

INT64 = ir.DataType.INT64
TO_THE_END = int(np.iinfo(np.int64).max)


def build_graph(
    source: WeightSource,
    recipe: Recipe,
    writer: GraphWriter,
    layer_done: Callable[[], None],
    kv_scales: Sequence[float] | None = None,
) -> ir.Model:
    """Builds a source's model with one layer's weights in memory at a time.

    `layer_done` is called when a layer's weights are written; `kv_scales` has one for each layer's
    keys and values, where these are integers. Raises `StartError` where ONNX Runtime's operators do
    not support the size of heads, or the graph's float type cannot hold a weight.
    """
    spec = source.spec
    _check_heads(spec)
    vocabulary_format = recipe.vocabulary()
    packed = recipe.kv_layout is KvLayout.PAGES
    input_ids = writer.input("input_ids", INT64, ["tokens"] if packed else ["batch", "sequence"])
    logits_to_keep = writer.optional_input("num_logits_to_keep", 0)
    attend = PagedAttention if packed else SlotAttention
    attention: Attention = attend(spec, writer, kv_scales)
    builder = LayerBuilder(spec, recipe.layers(), writer, attention)
    embedding = vocabulary_format.store(writer, "embedding", source.embedding())
    keep = _keep_last(writer, logits_to_keep, input_ids, recipe)
    stream = Stream(embedding.gather(input_ids, "embedded"))
    for index in range(spec.layers):
        last = index == spec.layers - 1
        stream = builder.layer(index, source.layer(index), stream, keep if last else None)
        layer_done()
    hidden, _ = builder.normalise("final_norm", source.final_norm(), stream)
    head = embedding
    if not spec.tied_embedding:
        head = vocabulary_format.store(writer, "head", source.head())
    logits = _logits(writer, head, hidden)
    rows = ["kept"] if packed else ["batch", "kept"]
    writer.output(logits, [*rows, spec.vocabulary_size])
    if recipe.target is Target.CUDA:
        add_selection(writer, logits, spec.vocabulary_size)
    return writer.model()


def _check_heads(spec: DecoderSpec) -> None:
    """Raises `StartError` where attention's operators cannot rotate the heads."""
    if spec.head_dim % 16:
        raise StartError(
            f"ONNX Runtime rotates heads of 16, 32, 48, ... dimensions, not {spec.head_dim}"
        )


def _negative(
    writer: GraphWriter, count: ir.Value, input_ids: ir.Value, target: Target
) -> ir.Value:
    """Returns -count; for CUDA as 0 - count, with a 0 that is computed from a shape. ONNX Runtime
    computes with shapes on the CPU, and with other values on CUDA. Slice wants its start on the
    CPU, and a graph that copies between the two cannot be captured."""
    if target is Target.CPU:
        return writer.node("Neg", "first_kept.scalar", [count])
    shape = writer.node("Shape", "ids_shape", [input_ids])
    first = writer.node("Gather", "ids_shape.first", [shape, writer.constant("ids_shape.axis", 0)])
    zero = writer.node("Sub", "shape_zero", [first, first])
    return writer.node("Sub", "first_kept.scalar", [zero, count])


def _keep_last(writer: GraphWriter, count: ir.Value, input_ids: ir.Value, recipe: Recipe) -> Keep:
    """Returns a slice to the last `count` tokens, which begins at index -count; 0 keeps all tokens,
    because -0 is the first index."""
    vector = writer.constant("first_kept.shape", [1])
    negative = _negative(writer, count, input_ids, recipe.target)
    start = writer.node("Reshape", "first_kept", [negative, vector])
    end = writer.constant("kept.end", [TO_THE_END])
    axis = writer.constant("kept.axis", [0 if recipe.kv_layout is KvLayout.PAGES else 1])
    return lambda name, rows: writer.node("Slice", name, [rows, start, end, axis])


def _logits(writer: GraphWriter, head: Matrix, kept: ir.Value) -> ir.Value:
    """Logits in float32, whatever the graph computes in: sampling goes by their differences."""
    if writer.float_type is ir.DataType.FLOAT:
        return head.multiply(kept, "logits")
    return writer.node(
        "Cast", "logits", [head.multiply(kept, "logits.narrow")], {"to": ir.DataType.FLOAT}
    )
