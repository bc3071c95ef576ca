"""A graph for decode rows and a piece of a prompt in one call, which reads the weights once.

Knows the graph for the CPU that `graph.decoder` builds, and changes a copy of it. On the CPU, ONNX
Runtime's attention takes neither ragged rows nor an empty part. So matrices see the tokens of both
as one sequence, and in each layer the rows and the piece have an attention node each.
"""

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from model_tools.decoder_spec import DecoderSpec
from model_tools.graph.attention import INT64, sequence_lengths
from model_tools.graph.node_writer import MICROSOFT, NodeWriter

FLOAT = ir.DataType.FLOAT
"""The only type of keys and values on the CPU."""


def mixed_graph(model: ir.Model, spec: DecoderSpec) -> ir.Model:
    """Returns a graph with the same weights as `model`. Each part of a call has the same bits as in
    a call of its own, where kernels round a row of a matrix the same whatever rows are beside it.

    `input_ids` [1, tokens] are the newest token of each row, then the piece. `attention_mask` and
    `past_key_values` are the rows', `prompt_mask` and `prompt_past` the piece's. `logits` are those
    of the rows, then of the piece's last `prompt_logits_to_keep` tokens; 0 keeps none.
    """
    mixed = model.clone()
    graph, writer = mixed.graph, NodeWriter(mixed.graph)
    inputs = {value.name: value for value in graph.inputs}
    inputs["input_ids"].shape = ir.Shape([1, "tokens"])
    rows = writer.node("Shape", "rows", [inputs["attention_mask"]], {"end": 1})
    tokens = writer.node("Shape", "tokens", [inputs["input_ids"]], {"start": 1})
    piece = writer.node("Sub", "piece", [tokens, rows])
    attention = _MixedAttention.of(spec, writer, rows, piece)
    for index in range(spec.layers):
        attention.split(index, graph.node(f"layers.{index}.attention"))
    _keep_rows_and_last_tokens(writer, graph, rows, piece)
    graph.inputs.remove(inputs["num_logits_to_keep"])
    [logits] = [value for value in graph.outputs if value.name == "logits"]
    logits.shape = ir.Shape([1, "kept", spec.vocabulary_size])
    RemoveUnusedNodesPass()(mixed)
    graph.sort()
    return mixed


@dataclass(frozen=True, slots=True)
class _MixedAttention:
    """Splits the attention of each layer; holds the values that layers share."""

    spec: DecoderSpec
    writer: NodeWriter
    sizes: ir.Value
    """int64 [2]: rows, and tokens of the piece."""
    prompt_lengths: tuple[ir.Value, ir.Value]
    as_batch: ir.Value
    """The shape of one token for each row."""
    as_sequence: ir.Value

    @classmethod
    def of(
        cls, spec: DecoderSpec, writer: NodeWriter, rows: ir.Value, piece: ir.Value
    ) -> "_MixedAttention":
        prompt_mask = writer.input("prompt_mask", INT64, [1, "prompt_total"])
        return cls(
            spec,
            writer,
            sizes=writer.node("Concat", "sizes", [rows, piece], {"axis": 0}),
            prompt_lengths=sequence_lengths(writer, prompt_mask, "prompt_"),
            # 0 leaves the width as it is.
            as_batch=writer.constant("as_batch", [-1, 1, 0]),
            as_sequence=writer.constant("as_sequence", [1, -1, 0]),
        )

    def split(self, index: int, attention: ir.Node) -> None:
        """Leaves the rows to a layer's attention node, and adds one for the piece."""
        name, node = attention.name, self.writer.node
        qkv, attended = attention.inputs[0], attention.outputs[0]
        [use] = attended.uses()
        names = [f"{name}.rows_qkv", f"{name}.prompt_qkv"]
        rows, piece = self.writer.nodes("Split", names, [qkv, self.sizes], {"axis": 1})
        batch = node("Reshape", f"{name}.batch_qkv", [rows, self.as_batch])
        attention.replace_input_with(0, batch)
        parts = [
            node("Reshape", f"{name}.rows", [attended, self.as_sequence]),
            self._prompt_attention(index, attention, piece),
        ]
        mixed = node("Concat", f"{name}.mixed", parts, {"axis": 1})
        use.node.replace_input_with(use.idx, mixed)

    def _prompt_attention(self, index: int, attention: ir.Node, qkv: ir.Value) -> ir.Value:
        shape = (1, self.spec.kv_heads, "prompt_capacity", self.spec.head_dim)
        kinds = ("key", "value")
        past = [self.writer.input(f"prompt_past.{index}.{kind}", FLOAT, shape) for kind in kinds]
        attended, *present = self.writer.nodes(
            "GroupQueryAttention",
            [f"{attention.name}.prompt", *(f"prompt_present.{index}.{kind}" for kind in kinds)],
            [qkv, None, None, *past, *self.prompt_lengths, *attention.inputs[7:]],
            {name: attribute.value for name, attribute in attention.attributes.items()},
            domain=MICROSOFT,
        )
        for value in present:
            self.writer.output(value, shape)
        return attended


def _keep_rows_and_last_tokens(
    writer: NodeWriter, graph: ir.Graph, rows: ir.Value, piece: ir.Value
) -> None:
    """Keeps these tokens after the last layer's attention, instead of those that `kept` selects."""
    to_keep = writer.input("prompt_logits_to_keep", INT64, [])
    vector = writer.constant("prompt_kept.shape", [1])
    last = writer.node("Reshape", "prompt_kept.size", [to_keep, vector])
    others = writer.node("Sub", "prompt_others.size", [piece, last])
    sizes = writer.node("Concat", "kept.sizes", [rows, others, last], {"axis": 0})
    for kept in (graph.node("kept.attended"), graph.node("kept.residual")):
        names = [f"{kept.name}.{part}" for part in ("rows", "others", "last")]
        of_rows, _, of_piece = writer.nodes("Split", names, [kept.inputs[0], sizes], {"axis": 1})
        mixed = writer.node("Concat", f"{kept.name}.mixed", [of_rows, of_piece], {"axis": 1})
        kept.outputs[0].replace_all_uses_with(mixed)
