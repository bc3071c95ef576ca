"""ONNX Runtime's PagedAttention where there is no kernel for it: in numpy, token by token, and as a
function of ONNX's own operators that takes the operator's place in a graph.

Both follow the operator's description in ONNX Runtime 1.31, as far as Skiff's graphs go: packed q,
k and v, rotary embedding of halves, causal attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[np.float32]
Integers = NDArray[np.int32]

DOMAIN = "stand_in"
"""Of the function, since ONNX Runtime keeps to its own operator where it knows one."""
INPUTS = 17
_FLOAT, _INT64 = int(ir.DataType.FLOAT), int(ir.DataType.INT64)


@dataclass(frozen=True)
class Heads:
    queries: int
    keys: int
    size: int


@dataclass(frozen=True)
class Packed:
    """A call: tokens of several rows, one row after the other, and the pages of each."""

    qkv: Array
    ends: Integers
    pasts: Integers
    table: Integers


def paged_attention(
    heads: Heads, call: Packed, keys: Array, values: Array, cosines: Array, sines: Array
) -> Array:
    """What the operator gives; writes new keys and values into the pages."""
    output = np.zeros((len(call.qkv), heads.queries, heads.size), np.float32)
    page_tokens = keys.shape[1]
    for row, past in enumerate(call.pasts):
        pages = call.table[row]
        for position, token in enumerate(range(call.ends[row], call.ends[row + 1]), int(past)):
            q, k, v = np.split(
                call.qkv[token].reshape(-1, heads.size), [heads.queries, heads.queries + heads.keys]
            )
            place = pages[position // page_tokens], position % page_tokens
            keys[place] = _rotated(k, cosines[position], sines[position])
            values[place] = v
            held = [(pages[n // page_tokens], n % page_tokens) for n in range(position + 1)]
            for head, query in enumerate(_rotated(q, cosines[position], sines[position])):
                of = head * heads.keys // heads.queries
                scores = np.array([keys[place][of] @ query for place in held]) / heads.size**0.5
                weights = np.exp(scores - scores.max())
                seen = np.array([values[place][of] for place in held])
                output[token, head] = weights @ seen / weights.sum()
    return output.reshape(len(output), -1)


def _rotated(rows: Array, cosines: Array, sines: Array) -> Array:
    first, second = np.split(rows, 2, axis=1)
    return np.concatenate(
        [first * cosines - second * sines, second * cosines + first * sines], axis=1
    )


def stand_in(model_file: Path, page_tokens: int) -> None:
    """Lets a graph of PagedAttention nodes run on the CPU, in any float type and with any pages."""
    model = ir.load(model_file)
    nodes = [node for node in model.graph if node.op_type == "PagedAttention"]
    for node in nodes:
        node.domain = DOMAIN
    keys = nodes[0].inputs[3]
    assert keys is not None
    assert keys.shape is not None
    attributes, shape = nodes[0].attributes, keys.shape
    queries, of_keys = (attributes[name].as_int() for name in ("num_heads", "kv_num_heads"))
    function = function_of(Heads(queries, of_keys, int(str(shape[3]))), page_tokens)
    for node in nodes:
        node.attributes.clear()
        for value in (*node.inputs[3:5], *node.outputs[1:]):
            assert value is not None
            value.shape = ir.Shape([shape[0], page_tokens, *shape[2:]])
    model.functions[function.identifier()] = function
    model.opset_imports[DOMAIN] = 1
    ir.save(model, model_file)


def function_of(heads: Heads, page_tokens: int) -> ir.Function:
    """With the operator's inputs and outputs."""
    inputs = [ir.Value(name=f"input_{n}") for n in range(INPUTS)]
    writer = _Writer(heads, page_tokens)
    query, keys, values, ends, pasts, table, cosines, sines = (
        inputs[n] for n in (0, 3, 4, 5, 6, 7, 8, 9)
    )
    row, position = writer.places(query, ends, pasts)
    pages = writer.gather(writer.integers(table), row)
    rotation = [writer.unsqueezed(writer.gather(each, position), 1) for each in (cosines, sines)]
    rotation = [writer.floats(each) for each in rotation]
    q, k, v = writer.heads_of(writer.floats(query))
    written = writer.written(pages, position)
    k, v = (writer.op("CastLike", new, keys) for new in (writer.rotated(k, rotation), v))
    new_keys = writer.op("ScatterND", keys, written, k)
    new_values = writer.op("ScatterND", values, written, v)
    attended = writer.attend(writer.rotated(q, rotation), new_keys, new_values, pages, position)
    output = writer.op("CastLike", attended, query)
    graph = ir.Graph(
        inputs, [output, new_keys, new_values], nodes=writer.nodes, opset_imports={"": 18}
    )
    return ir.Function(DOMAIN, "PagedAttention", graph=graph, attributes=[])


class _Writer:
    """Nodes of the function."""

    def __init__(self, heads: Heads, page_tokens: int) -> None:
        self._heads = heads
        self._page_tokens = page_tokens
        self._tape = ir.tape.Tape()

    @property
    def nodes(self) -> Sequence[ir.Node]:
        return self._tape.nodes

    def op(self, operator: str, *inputs: ir.Value, **attributes: int | list[int]) -> ir.Value:
        return self._tape.op(operator, inputs, attributes)

    def constant(self, value: int | float | list[int]) -> ir.Value:
        dtype = np.float32 if isinstance(value, float) else np.int64
        return self._tape.op("Constant", [], {"value": ir.tensor(np.array(value, dtype))})

    def gather(self, values: ir.Value, indices: ir.Value) -> ir.Value:
        return self.op("Gather", values, indices)

    def integers(self, value: ir.Value) -> ir.Value:
        return self.op("Cast", value, to=_INT64)

    def floats(self, value: ir.Value) -> ir.Value:
        return self.op("Cast", value, to=_FLOAT)

    def unsqueezed(self, value: ir.Value, *axes: int) -> ir.Value:
        return self.op("Unsqueeze", value, self.constant(list(axes)))

    def reshaped(self, value: ir.Value, *shape: int) -> ir.Value:
        return self.op("Reshape", value, self.constant(list(shape)))

    def range(self, value: ir.Value, axis: int) -> ir.Value:
        """0, 1, ... along an axis of a value."""
        shape = self.op("Shape", value)
        length = self.gather(shape, self.constant(axis))
        return self.op("Range", self.constant(0), length, self.constant(1))

    def places(self, query: ir.Value, ends: ir.Value, pasts: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The row of each token, and its position there."""
        token, ends = self.range(query, 0), self.integers(ends)
        later = self.op("Slice", ends, self.constant([1]), self.constant([2**31]))
        ended = self.integers(self.op("LessOrEqual", later, self.unsqueezed(token, 1)))
        row = self.op("ReduceSum", ended, self.constant([1]), keepdims=0)
        past = self.gather(self.integers(pasts), row)
        return row, self.op("Add", past, self.op("Sub", token, self.gather(ends, row)))

    def written(self, pages: ir.Value, position: ir.Value) -> ir.Value:
        """[tokens, 2]: the page of each token, and where in it."""
        column, size = self.unsqueezed(position, 1), self.constant(self._page_tokens)
        page = self.op("GatherElements", pages, self.op("Div", column, size), axis=1)
        return self.op("Concat", page, self.op("Mod", column, size), axis=1)

    def heads_of(self, query: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        """q, k and v [tokens, heads, size]."""
        counts = [self._heads.queries, self._heads.keys, self._heads.keys]
        qkv = self.reshaped(query, -1, sum(counts), self._heads.size)
        parts = [ir.Value() for _ in counts]
        q, k, v = self._tape.op_multi_out(
            "Split", [qkv, self.constant(counts)], {"axis": 1}, outputs=parts
        )
        return q, k, v

    def rotated(self, rows: ir.Value, rotation: Sequence[ir.Value]) -> ir.Value:
        cosines, sines = rotation
        half = self._heads.size // 2
        parts = [ir.Value(), ir.Value()]
        first, second = self._tape.op_multi_out(
            "Split", [rows, self.constant([half, half])], {"axis": 2}, outputs=parts
        )
        one = self.op("Sub", self.op("Mul", first, cosines), self.op("Mul", second, sines))
        other = self.op("Add", self.op("Mul", second, cosines), self.op("Mul", first, sines))
        return self.op("Concat", one, other, axis=2)

    def attend(
        self, q: ir.Value, keys: ir.Value, values: ir.Value, pages: ir.Value, position: ir.Value
    ) -> ir.Value:
        """[tokens, heads * size], each token over all that its row's pages hold up to it."""
        heads, group = self._heads, self._heads.queries // self._heads.keys
        grouped = self.reshaped(q, -1, heads.keys, group, heads.size)
        held = [
            self.reshaped(self.floats(self.gather(each, pages)), 0, -1, heads.keys, heads.size)
            for each in (keys, values)
        ]
        by_head = self.op("Transpose", held[0], perm=[0, 2, 3, 1])
        products = self.op("MatMul", grouped, by_head)
        scores = self.op("Div", products, self.constant(heads.size**0.5))
        seen = self.op("LessOrEqual", self.range(held[0], 1), self.unsqueezed(position, 1))
        mask = self.unsqueezed(seen, 1, 2)
        masked = self.op("Where", mask, scores, self.constant(-3e38))
        weights = self.op("Softmax", masked, axis=-1)
        by_head = self.op("Transpose", held[1], perm=[0, 2, 1, 3])
        attended = self.op("MatMul", weights, by_head)
        return self.reshaped(attended, -1, heads.queries * heads.size)
