"""Tensors are bound at addresses, whatever NumPy knows of their type."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from server.config import CPU
from server.model.gpu.bindings import Binding, Placed
from server.model.graph_interface import GraphInterface


def copying(place: Path, dtype: ir.DataType) -> onnxruntime.InferenceSession:
    """A graph that gives one layer's keys as they are, and some logits."""
    shape: list[int | str | None] = ["batch", 2, "capacity", 4]
    past, ids = (
        ir.val("past_key_values.0.key", dtype, shape),
        ir.val("input_ids", dtype=ir.DataType.INT64, shape=["b", "s"]),
    )
    present, logits = (
        ir.val("present.0.key", dtype, shape),
        ir.val("logits", ir.DataType.FLOAT, ["b", "s", 3]),
    )
    to = {"to": ir.DataType.FLOAT}
    wide = ir.val("wide", ir.DataType.FLOAT, ["b", "s"])
    axes = ir.Value(name="axes", const_value=ir.tensor(np.array([2]), name="axes"))
    times = ir.Value(name="times", const_value=ir.tensor(np.array([1, 1, 3]), name="times"))
    single = ir.val("single", ir.DataType.FLOAT, ["b", "s", 1])
    nodes = [
        ir.node("Identity", [past], outputs=[present]),
        ir.node("Cast", [ids], to, outputs=[wide]),
        ir.node("Unsqueeze", [wide, axes], outputs=[single]),
        ir.node("Tile", [single, times], outputs=[logits]),
    ]
    graph = ir.Graph(
        [ids, past],
        [logits, present],
        nodes=nodes,
        initializers=[axes, times],
        opset_imports={"": 21},
    )
    ir.save(ir.Model(graph, ir_version=10), place / "copying.onnx")
    return onnxruntime.InferenceSession(place / "copying.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        (ir.DataType.FLOAT, np.float32),
        (ir.DataType.FLOAT16, np.float16),
        (ir.DataType.BFLOAT16, np.uint16),
        (ir.DataType.INT8, np.int8),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_keys_and_values_are_bound_in_every_type_that_a_graph_may_have(
    tmp_path: Path, dtype: ir.DataType, bits: type[np.generic]
) -> None:
    session = copying(tmp_path, dtype)
    [kv] = GraphInterface.of(session, "copying").kv
    assert kv.dtype == bits
    given = np.random.default_rng(0).integers(0, 100, (1, 2, 5, 4)).astype(bits)
    taken, ids = np.zeros_like(given), np.zeros((1, 2), np.int64)
    logits = np.empty((1, 2, 3), np.float32)
    binding = Binding(session, CPU)
    binding.host_input("input_ids", ids)
    binding.input(kv.past, Placed(given.ctypes.data, kv.dtype, given.shape, kv.onnx_type))
    binding.output(kv.present, Placed(taken.ctypes.data, kv.dtype, taken.shape, kv.onnx_type))
    binding.output("logits", Placed(logits.ctypes.data, logits.dtype, logits.shape))
    session.run_with_iobinding(binding.io_binding)
    np.testing.assert_array_equal(taken, given)
