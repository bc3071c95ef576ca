"""Nodes that find each row's largest logits on the GPU, so that only these leave it.

Knows ONNX operators and which of them are fast on CUDA; knows nothing of a decoder.
`server.model.candidates` says what the outputs mean.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from model_tools.graph.node_writer import Attributes
from model_tools.graph.writer import GraphWriter

CANDIDATES = 64
"""Enough to decide a draw with the usual filters (top-k 40 or 50), even if some are equal."""
GROUP = 64
"""Neighbouring logits, of which only the maximum is compared at first. ONNX Runtime's TopK gives a
row to a single block of the GPU, which reads it seven times: for 128,256 logits that would take
longer than a layer. Here it reads 2,004 maxima, and then the 64 groups that have the largest."""
INT64 = ir.DataType.INT64


def add_selection(writer: GraphWriter, logits: ir.Value, vocabulary_size: int) -> None:
    """Adds the outputs `candidate_ids`, `candidate_logits` and `log_sum_exp` for float32 logits
    [..., vocabulary]; each output has a row for each row of logits."""
    rows = writer.node(
        "Reshape", "rows", [logits, writer.constant("rows.shape", [-1, vocabulary_size])]
    )
    values, ids = _Groups(writer, vocabulary_size).largest(rows)
    writer.output(values, ["rows", ids_width(vocabulary_size)])
    writer.output(ids, ["rows", ids_width(vocabulary_size)], INT64)
    writer.output(_log_sum_exp(writer, rows, values), ["rows", 1])


def ids_width(vocabulary_size: int) -> int:
    """The number of candidates of a row."""
    return min(CANDIDATES, vocabulary_size)


@dataclass(frozen=True, slots=True)
class _Groups:
    """Rows of logits, split into groups."""

    writer: GraphWriter
    vocabulary_size: int

    @property
    def count(self) -> int:
        return -(-self.vocabulary_size // GROUP)

    def largest(self, rows: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Returns values and ids of each row's largest logits, largest first.

        Exact: a group that holds one of them has a maximum among the largest maxima. Only which of
        the logits that equal the last candidate are taken is left open.
        """
        node, constant = self.writer.node, self.writer.constant
        chosen = min(ids_width(self.vocabulary_size), self.count)
        padded = self._padded(rows)
        _, best = self._top("best_groups", self._maxima(padded), chosen)
        shape = constant("groups.shape", [-1, self.count, GROUP])
        groups = node("Reshape", "groups", [padded, shape])
        indices = node(
            "Unsqueeze", "best_groups.indices", [best, constant("best_groups.axes", [2])]
        )
        pool = node("GatherND", "pool.groups", [groups, indices], {"batch_dims": 1})
        pool = node("Reshape", "pool", [pool, constant("pool.shape", [-1, chosen * GROUP])])
        values, positions = self._top("candidate_logits", pool, ids_width(self.vocabulary_size))
        return values, self._ids(best, positions)

    def _maxima(self, padded: ir.Value) -> ir.Value:
        """[rows, count]. ReduceMax would do it in one node, but is twice as slow for many rows.

        Each group is whole: cuDNN, which pools on CUDA, has no windows that reach beyond a row
        (https://github.com/microsoft/onnxruntime/pull/29631)."""
        node, constant = self.writer.node, self.writer.constant
        channel = constant("group_maxima.axes", [1])
        signal = node("Unsqueeze", "group_maxima.signal", [padded, channel])
        window: Attributes = {"kernel_shape": [GROUP], "strides": [GROUP]}
        maxima = node("MaxPool", "group_maxima.channel", [signal], window)
        return node("Squeeze", "group_maxima", [maxima, channel])

    def _padded(self, rows: ir.Value) -> ir.Value:
        missing = self.count * GROUP - self.vocabulary_size
        if not missing:
            return rows
        pads = self.writer.constant("rows.pads", [0, 0, 0, missing])
        nothing = self.writer.weight("rows.padding", np.array(-np.inf, np.float32))
        return self.writer.node("Pad", "rows.padded", [rows, pads, nothing])

    def _top(self, name: str, values: ir.Value, count: int) -> tuple[ir.Value, ir.Value]:
        k = self.writer.constant(f"{name}.count", [count])
        top, positions = self.writer.nodes(
            "TopK", [name, f"{name}.places"], [values, k], {"axis": 1}
        )
        return top, positions

    def _ids(self, best: ir.Value, positions: ir.Value) -> ir.Value:
        """Token ids of positions in the pool."""
        node, size = self.writer.node, self.writer.constant("group_size", GROUP)
        row = node("Div", "candidate_rows", [positions, size])
        inside = node(
            "Sub",
            "candidate_offsets",
            [positions, node("Mul", "candidate_rows.start", [row, size])],
        )
        group = node("GatherElements", "candidate_groups", [best, row], {"axis": 1})
        start = node("Mul", "candidate_groups.start", [group, size])
        return node("Add", "candidate_ids", [start, inside])


def _log_sum_exp(writer: GraphWriter, rows: ir.Value, values: ir.Value) -> ir.Value:
    """Computed relative to the largest logit. A single operator of ONNX would do, but on an H200
    ReduceLogSumExp takes 6 ms for 8 rows, and LogSoftmax, which gives a row to one block, 41 us for
    one row; these nodes take 7 us.
    """
    largest = writer.slice("best_logits", values, axis=1, start=0, end=1)
    below = writer.node("Sub", "logits_below_best", [rows, largest])
    terms = writer.node("Exp", "exponentials", [below])
    axes = writer.constant("exponentials.axes", [1])
    total = writer.node("ReduceSum", "exponentials.sum", [terms, axes], {"keepdims": 1})
    return writer.node("Add", "log_sum_exp", [largest, writer.node("Log", "log_of_sum", [total])])
