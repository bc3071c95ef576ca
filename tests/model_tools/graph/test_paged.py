"""Graphs with keys and values in pages: as ONNX Runtime's operator wants them, with the
names of ONNX Runtime GenAI's engine. `tests.model.gpu.test_paged_decoder` tests what they compute.
"""

from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime_genai
import pytest

from model_tools.export import export
from model_tools.recipe import KvLayout, Recipe, Target
from model_tools.verification.verify_weights import WeightsVerification
from server.config import CPU
from server.errors import StartError
from server.model.folder import ModelFolder
from server.model.graph_interface import PAGE_TOKENS
from server.model.opening import open_decoder
from tests.model_tools.tiny_gguf import TinyLlama


@pytest.fixture(params=["float", "int8"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """In bfloat16, which ONNX Runtime leaves as it is where there is no kernel."""
    gguf = TinyLlama().write(tmp_path / "tiny.gguf")
    place = tmp_path / "folder"
    outcome = export(
        gguf, place, target="cuda", weights="bf16", kv=request.param, kv_layout="pages"
    )
    assert isinstance(outcome, WeightsVerification)
    assert outcome.weights.mean_kl < 1e-3
    return place


def test_pages_are_for_cuda() -> None:
    assert Recipe.of(Target.CUDA, None, None, None).kv_layout is KvLayout.SLOTS
    with pytest.raises(StartError, match="--kv-layout pages is for --target cuda"):
        Recipe.of(Target.CPU, None, None, None, kv_layout=KvLayout.PAGES)


def test_each_input_of_the_operator_is_where_it_belongs(folder: Path) -> None:
    """By ONNX Runtime 1.31's schema."""
    graph = ir.load(folder / "model.onnx").graph
    nodes = [node for node in graph if node.op_type == "PagedAttention"]
    assert len(nodes) == 2
    for index, node in enumerate(nodes):
        names = [value.name if value else None for value in node.inputs]
        assert names[1:10] == [
            *(None, None),
            *(f"past_key_values.{index}.{kind}" for kind in ("key", "value")),
            *("cumulative_sequence_lengths", "past_sequence_lengths", "block_table"),
            *("rotary.cosines", "rotary.sines"),
        ]
        assert names[10:14] == [None] * 4
        assert names[16:] == ["attention_metadata"]
        kept = node.inputs[3]
        assert kept is not None
        if kept.dtype is ir.DataType.INT8:
            assert node.inputs[14] is node.inputs[15] is not None
            assert node.attributes["k_quant_type"].as_string() == "PER_TENSOR"
        else:
            assert names[14:16] == [None, None]
        assert kept.shape is not None
        assert kept.shape[1] == PAGE_TOKENS


def test_onnx_finds_nothing_wrong(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    for node in model.graph.node:
        if node.op_type == "SimplifiedLayerNormalization":
            node.domain = "com.microsoft"  # ONNX Runtime's own, though in the standard's domain
    onnx.checker.check_model(model)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def test_the_runtime_finds_nothing_wrong_but_kernels_that_the_cpu_lacks(folder: Path) -> None:
    """It infers all types and shapes before it looks for kernels."""
    with pytest.raises(StartError, match="Could not find an implementation for"):
        open_decoder(ModelFolder.read(folder), CPU, slots=1, context=8, threads=1)


def test_genai_finds_its_engine_and_all_names_in_its_document(folder: Path) -> None:
    """It fails where the runtime does, for lack of a kernel."""
    config = onnxruntime_genai.Config(str(folder))
    config.clear_providers()
    with pytest.raises(RuntimeError, match="Could not find an implementation for"):
        onnxruntime_genai.Model(config)
