"""What is asked of the runtime besides running a graph."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from server.config import Device, DeviceKind
from server.errors import StartError
from server.model.gpu.sessions import find_runtime, misplaced, open_session, trial_failure
from server.model.gpu.trial_graph import SIDE, TRIAL_GRAPH
from tests.model.tiny_folder import tiny_folder


@dataclass(frozen=True)
class Node:
    op_type: str


@dataclass(frozen=True)
class Subgraph:
    ep_name: str
    nodes: list[Node]

    def get_nodes(self) -> list[Node]:
        return self.nodes


@dataclass(frozen=True)
class Session:
    cuda: list[str]
    cpu: list[str]

    def get_provider_graph_assignment_info(self) -> list[Subgraph]:
        return [
            Subgraph("CUDAExecutionProvider", [Node(name) for name in self.cuda]),
            Subgraph("CPUExecutionProvider", [Node(name) for name in self.cpu]),
        ]


def test_attention_and_matrices_belong_on_the_device() -> None:
    heavy = ["GroupQueryAttention", "MatMulNBits"]
    assert misplaced(Session(cuda=heavy, cpu=["Shape", "Gather"])) == []
    assert misplaced(Session(cuda=["MatMulNBits"], cpu=["GroupQueryAttention"])) == heavy[:1]
    assert misplaced(Session(cuda=heavy, cpu=["MatMulNBits", "MatMulNBits"])) == heavy[1:]
    assert misplaced(Session(cuda=[], cpu=heavy)) == heavy


def test_a_session_without_the_device_has_all_in_the_wrong_place(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    model = tiny_folder(tmp_path / "tiny", "int8") / "model.onnx"
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    assert misplaced(session) == ["GroupQueryAttention", "MatMulNBits"]


def test_a_device_that_is_not_there_fails_the_trial() -> None:
    assert trial_failure(Device(DeviceKind.CUDA)) is not None


def test_a_session_on_a_device_that_is_not_there_is_none_on_the_cpu(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(TRIAL_GRAPH)
    with pytest.raises(StartError, match="ONNX Runtime cannot load it"):
        open_session(tmp_path / "model.onnx", Device(DeviceKind.CUDA), threads=1)


def test_the_trial_graph_is_what_its_name_says() -> None:
    value = ir.TensorType(ir.DataType.FLOAT)
    x, product, y = (ir.Value(name=name, type=value) for name in "xpy")
    for each in (x, product, y):
        each.shape = ir.Shape([SIDE, SIDE])
    nodes = [
        ir.node("MatMul", [x, x], outputs=[product], name="product"),
        ir.node("Relu", [product], outputs=[y], name="positive"),
    ]
    graph = ir.Graph([x], [y], nodes=nodes, opset_imports={"": 21}, name="trial")
    assert ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString() == TRIAL_GRAPH


def test_the_trial_graph_runs() -> None:
    session = onnxruntime.InferenceSession(TRIAL_GRAPH, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    (y,) = session.run(None, {"x": x})
    np.testing.assert_allclose(y, np.maximum(x @ x, 0), rtol=1e-5)


def test_the_runtime_says_what_it_is() -> None:
    runtime = find_runtime()
    assert runtime is not None
    assert runtime.version == onnxruntime.__version__
    assert not runtime.has_cuda
