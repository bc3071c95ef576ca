"""Graphs for CUDA: right by ONNX's own checks, near the reference where the CPU can run them, and
as the fast kernels want them. Nothing here needs a GPU, and nothing here has run on one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from model_tools.export import export, write_model
from model_tools.gguf.source import GgufSource
from model_tools.recipe import FloatType, KvType, Recipe, Target, WeightType
from model_tools.verification.verify import Verification
from model_tools.verification.verify_weights import WeightsVerification
from server.errors import StartError
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder
from tests.model_tools.tiny_gguf import TinyLlama

FAST = TinyLlama(hidden_size=64, intermediate_size=128, head_dim=64)
"""With matrices as wide as those of real models: multiples of 64."""
RECIPES = [
    Recipe.of(Target.CUDA, weights, activations, None, kv)
    for weights, activations, kv in (
        (WeightType.FP16, FloatType.FP16, KvType.FLOAT),
        (WeightType.FP16, FloatType.FP16, KvType.INT8),
        (WeightType.BF16, FloatType.BF16, KvType.FLOAT),
        (WeightType.INT8, FloatType.FP16, KvType.FLOAT),
        (WeightType.INT4, FloatType.FP16, KvType.FLOAT),
        (WeightType.INT4, FloatType.BF16, KvType.INT8),
    )
]
ONNX_TYPES = {"fp16": "FLOAT16", "bf16": "BFLOAT16"}


@pytest.fixture(params=RECIPES, ids=lambda each: f"{each.weights}-{each.activations}-{each.kv}")
def recipe(request: pytest.FixtureRequest) -> Recipe:
    chosen: Recipe = request.param
    return chosen


@pytest.fixture
def model_file(tmp_path: Path, recipe: Recipe) -> Path:
    export(
        FAST.write(tmp_path / "tiny.gguf"),
        tmp_path / "folder",
        target="cuda",
        weights=recipe.weights,
        activations=recipe.activations,
        kv=recipe.kv,
        verify=False,
    )
    return tmp_path / "folder" / "model.onnx"


def nodes(model_file: Path, operator: str) -> Iterator[ir.Node]:
    return (node for node in ir.load(model_file).graph if node.op_type == operator)


def test_onnx_finds_nothing_wrong(model_file: Path) -> None:
    """Neither with the standard's own operators nor with the shapes between them."""
    model = onnx.load(model_file)
    for node in model.graph.node:
        if node.op_type == "SimplifiedLayerNormalization":
            node.domain = "com.microsoft"  # ONNX Runtime's own, though in the standard's domain
    onnx.checker.check_model(model)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    logits = next(value for value in inferred.graph.output if value.name == "logits")
    assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_keys_values_and_weights_are_what_is_computed_in(model_file: Path, recipe: Recipe) -> None:
    graph = ir.load(model_file).graph
    expected = ONNX_TYPES[recipe.activations]
    for value in graph.inputs:
        if value.name and value.name.startswith("past"):
            assert value.dtype is not None
            assert value.dtype.name == ("INT8" if recipe.kv is KvType.INT8 else expected)
    floats = {
        tensor.dtype.name
        for name, initializer in graph.initializers.items()
        if name != "rows.padding" and not name.endswith("kv_scale")  # these are float32
        if (tensor := initializer.const_value) and tensor.dtype.is_floating_point()
    }
    assert floats == {expected}


def test_the_runtime_finds_nothing_wrong_but_kernels_that_the_cpu_lacks(
    model_file: Path, recipe: Recipe
) -> None:
    """It infers all types and shapes before it looks for kernels."""
    folder = ModelFolder.read(model_file.parent)
    if recipe.activations is FloatType.FP16:
        CpuDecoder(folder, slots=1, context=8, threads=1)
        return
    with pytest.raises(StartError, match="Could not find an implementation for"):
        CpuDecoder(folder, slots=1, context=8, threads=1)


@pytest.mark.parametrize(
    "weights", [each.weights for each in RECIPES if each.weights.is_integer][:2]
)
def test_the_fast_kernels_get_what_they_want(tmp_path: Path, weights: WeightType) -> None:
    """ONNX Runtime 1.31: fpA_intB takes float16, blocks of 32, no zero points and widths that are
    multiples of 64 (int4) or 32 (int8); the fused one for few rows, multiples of 8."""
    source = GgufSource.open(FAST.write(tmp_path / "tiny.gguf"))
    write_model(tmp_path, source, Recipe.of(Target.CUDA, weights, None, None))
    found = list(nodes(tmp_path / "model.onnx", "MatMulNBits"))
    assert len(found) == 4 * source.spec.layers + 1
    for node in found:
        a, b, scales = node.inputs  # and neither zero points nor a bias
        assert None not in (a, b, scales)
        assert scales is not None
        assert scales.dtype is ir.DataType.FLOAT16
        numbers = {name: attribute.as_int() for name, attribute in node.attributes.items()}
        assert numbers["block_size"] == 32
        assert numbers["K"] % 8 == 0
        if node.name != "logits.narrow":
            assert numbers["N"] % (64 if numbers["bits"] == 4 else 32) == 0
        assert "accuracy_level" not in numbers


def test_attention_shares_its_memory_and_rotates_by_itself(
    model_file: Path, recipe: Recipe
) -> None:
    """XQA, the fastest kernel for few rows, takes integers only with one scale for both."""
    for node in nodes(model_file, "GroupQueryAttention"):
        if recipe.kv is KvType.INT8:
            assert node.inputs[12] is node.inputs[13] is not None
            assert node.attributes["k_quant_type"].as_string() == "PER_TENSOR"
        assert node.attributes["do_rotary"].as_int() == 1
        assert node.inputs[1] is node.inputs[2] is None  # q, k and v are one
        assert [value.name and value.name.split(".")[0] for value in node.outputs[1:]] == [
            "present",
            "present",
        ]


@pytest.mark.parametrize(
    ("weights", "kv", "furthest"),
    [
        ("fp16", "float", 1e-5),
        ("fp16", "int8", 1e-3),
        ("int8", "float", 1e-3),
        ("int4", "float", 0.1),
    ],
)
def test_a_graph_that_the_cpu_can_run_is_verified_by_running_it(
    tmp_path: Path, weights: str, kv: str, furthest: float
) -> None:
    gguf = TinyLlama().write(tmp_path / "tiny.gguf")
    outcome = export(gguf, tmp_path / "folder", target="cuda", weights=weights, kv=kv)
    assert isinstance(outcome, Verification)
    assert outcome.how == "the graph ran on cpu"
    assert outcome.prompts.mean_kl < furthest
    assert outcome.decode.mean_kl < furthest


@pytest.mark.parametrize(("weights", "kv"), [("bf16", "float"), ("int8", "int8")])
def test_of_any_other_graph_the_written_weights_are_verified(
    tmp_path: Path, weights: str, kv: str
) -> None:
    gguf = TinyLlama(tied=False).write(tmp_path / "tiny.gguf")
    place = tmp_path / "folder"
    outcome = export(gguf, place, target="cuda", weights=weights, activations="bf16", kv=kv)
    assert isinstance(outcome, WeightsVerification)
    assert "did not run" in outcome.how
    assert ("keys and values not to int8" in outcome.how) == (kv == "int8")
    assert 0 < outcome.weights.mean_kl < 1e-3
    written = (place / "verification.json").read_text()
    assert "did not run" in written


@pytest.mark.parametrize(
    ("weights", "name"),
    [(None, "weight"), (WeightType.INT8, "scales"), (WeightType.INT4, "scales")],
)
def test_a_number_that_is_too_large_names_its_weight(
    tmp_path: Path, weights: WeightType | None, name: str
) -> None:
    source = GgufSource.open(TinyLlama().write(tmp_path / "tiny.gguf"))
    large = source.embedding() * np.float32(1e9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GgufSource, "embedding", lambda _: large)
        with pytest.raises(StartError, match=rf"embedding\.{name} .* FLOAT16 cannot hold"):
            write_model(tmp_path, source, Recipe.of(Target.CUDA, weights, None, None))
