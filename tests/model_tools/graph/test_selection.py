"""The candidates and sums that a graph gives for rows of logits, against the rows themselves."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_tools.export import write_model
from model_tools.gguf.source import GgufSource
from model_tools.graph.data_file import DataFile
from model_tools.graph.selection import CANDIDATES, GROUP, add_selection
from model_tools.graph.writer import GraphWriter
from model_tools.recipe import Recipe, Target, WeightType
from tests.model_tools.plain_session import PlainSession
from tests.model_tools.tiny_gguf import TinyLlama

Rows = NDArray[np.float32]
WIDTHS = (3, 64, 65, 272, 5000, 4096)
"""Vocabulary sizes: smaller than a group, whole groups and others, more groups than candidates."""


class Selection:
    """The nodes alone, with logits as their input."""

    def __init__(self, place: Path, width: int) -> None:
        with DataFile(place / "model.onnx.data") as data:
            writer = GraphWriter(data, opset=Target.CUDA.opset)
            logits = writer.input("logits", ir.DataType.FLOAT, ["batch", "kept", width])
            add_selection(writer, logits, width)
        ir.save(writer.model(), place / "model.onnx")
        self._session = onnxruntime.InferenceSession(place / "model.onnx")

    def of(self, logits: Rows) -> tuple[Rows, NDArray[np.int64], Rows]:
        """Values, ids and sums."""
        values, ids, sums = self._session.run(None, {"logits": logits})
        return values, ids, sums


@pytest.fixture(scope="module", params=WIDTHS)
def width(request: pytest.FixtureRequest) -> int:
    chosen: int = request.param
    return chosen


@pytest.fixture(scope="module")
def selection(width: int, tmp_path_factory: pytest.TempPathFactory) -> Selection:
    return Selection(tmp_path_factory.mktemp("selection"), width)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(1, 1), (3, 1), (1, 5)]),
    step=st.sampled_from([0, 0.25, 4]),
    scale=st.sampled_from([1, 9]),
)
def test_they_are_the_largest_logits_and_the_sum_of_all(
    selection: Selection,
    width: int,
    seed: int,
    shape: tuple[int, int],
    step: float,
    scale: float,
) -> None:
    """Whatever ties there are, and wherever they lie."""
    drawn = np.random.default_rng(seed).normal(scale=scale, size=(*shape, width))
    logits: Rows = (drawn // step * step if step else drawn).astype(np.float32)
    values, ids, sums = selection.of(logits)
    for row, told, places, log_sum_exp in zip(
        logits.reshape(-1, width), values, ids, sums, strict=True
    ):
        np.testing.assert_array_equal(told, np.sort(row)[::-1][:CANDIDATES])
        np.testing.assert_array_equal(row[places], told)
        assert len(set(places.tolist())) == min(CANDIDATES, width)
        expected = np.log(np.exp(row.astype(np.float64)).sum())
        np.testing.assert_allclose(log_sum_exp, [expected], rtol=1e-6, atol=1e-5)


def test_no_group_reaches_beyond_a_row(width: int, tmp_path: Path) -> None:
    """On CUDA, cuDNN pools, which has no such windows."""
    Selection(tmp_path, width)
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "model.onnx"))
    [pool] = [node for node in model.graph.node if node.op_type == "MaxPool"]
    assert {attribute.name for attribute in pool.attribute} == {"kernel_shape", "strides"}
    [signal] = [value for value in model.graph.value_info if value.name == pool.input[0]]
    length = signal.type.tensor_type.shape.dim[-1].dim_value
    assert length == -(-width // GROUP) * GROUP


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sum_over_no_numbers_is_none(selection: Selection, width: int, bad: float) -> None:
    logits = np.zeros((2, 1, width), np.float32)
    logits[0, 0, width // 2] = bad
    _, _, sums = selection.of(logits)
    assert np.isfinite(sums[:, 0]).tolist() == [False, True]


def test_a_graph_for_cuda_is_the_one_for_the_cpu_and_tells_more(tmp_path: Path) -> None:
    source = GgufSource.open(TinyLlama().write(tmp_path / "tiny.gguf"))
    text = np.random.default_rng(5).integers(0, 270, 40)
    every = []
    for target in Target:
        (tmp_path / target).mkdir()
        write_model(tmp_path / target, source, Recipe(WeightType.FP32, 32, target))
        run = PlainSession(tmp_path / target)
        for keep in (None, 1, 3):
            logits, _ = run.run(text, 0, run.empty_cache(64), keep=keep)
            every.append(logits)
        outputs = [value.name for value in run.session.get_outputs()]
        told = {"candidate_ids", "candidate_logits", "log_sum_exp"} & set(outputs)
        assert len(told) == (3 if target is Target.CUDA else 0)
    for one, other in zip(every[:3], every[3:], strict=True):
        np.testing.assert_array_equal(one, other)


CUDA_KERNELS = {
    **dict.fromkeys(["Add", "Div", "Mul", "Sub", "Reshape"], 14),
    **dict.fromkeys(["Cast", "Exp", "Gather", "GatherElements", "GatherND", "Log"], 13),
    **dict.fromkeys(["ReduceSum", "Slice", "Squeeze", "Unsqueeze"], 13),
    **dict.fromkeys(["Pad", "Split"], 18),
    "MaxPool": 12,
    "Shape": 15,
    "TopK": 11,
    "SimplifiedLayerNormalization": 1,
}
"""Versions of ONNX's operators that ONNX Runtime has CUDA kernels for (its
docs/OperatorKernels.md), with the types that are used here."""


@pytest.mark.parametrize("padding_rows", [0, 48])
def test_each_of_onnxs_operators_has_a_kernel_for_cuda(tmp_path: Path, padding_rows: int) -> None:
    """A node without one would run on the CPU, and CUDA graphs could not be captured."""
    source = GgufSource.open(TinyLlama(padding_rows=padding_rows).write(tmp_path / "tiny.gguf"))
    write_model(tmp_path, source, Recipe(WeightType.FP32, 32, Target.CUDA))
    model = ir.load(tmp_path / "model.onnx")
    schemas = onnxruntime.capi.onnxruntime_pybind11_state.get_all_operator_schema()
    used = {node.op_type for node in model.graph if not node.domain}
    for operator in used:
        versions = [
            schema.since_version
            for schema in schemas
            if schema.name == operator
            and schema.domain in ("", "ai.onnx")
            and schema.since_version <= model.opset_imports[""]
        ]
        assert max(versions) == CUDA_KERNELS[operator], operator
