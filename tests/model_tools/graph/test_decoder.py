"""The written graph against the independent reference, on tiny models."""

import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from model_tools.decoder_spec import DecoderSpec, LayerWeights, Weights, WeightSource
from model_tools.export import write_model
from model_tools.gguf.source import GgufSource
from model_tools.graph.data_file import PAGE, DataFile
from model_tools.graph.matrices import INT8_ACTIVATIONS, IntegerFormat
from model_tools.graph.writer import GraphWriter
from model_tools.recipe import Recipe, WeightType
from model_tools.verification.reference import reference_logits
from model_tools.weights.quantise import BlockFormat, dequantise, quantise
from server.errors import StartError
from tests.model_tools.plain_session import PlainSession
from tests.model_tools.tiny_gguf import TinyLlama

FP32 = Recipe(WeightType.FP32, block_size=32)
TEXT = np.random.default_rng(5).integers(0, 270, 40)
"""Tokens that every tiny model has."""
ON_CPU = [WeightType.FP32, WeightType.INT8, WeightType.INT4]
FORMATS = [BlockFormat(bits, size) for bits in (4, 8) for size in (32, 64, 128)]


def tiny(path: Path, model: TinyLlama | None = None) -> GgufSource:
    return GgufSource.open((model or TinyLlama()).write(path / "tiny.gguf"))


def session(path: Path, source: WeightSource, recipe: Recipe = FP32) -> PlainSession:
    write_model(path, source, recipe)
    return PlainSession(path)


def reference(source: WeightSource) -> Weights:
    [rows] = reference_logits(source, [TEXT])
    return rows


@pytest.mark.parametrize(
    "model",
    [
        TinyLlama(),
        TinyLlama(tied=False),
        TinyLlama(hidden_size=50, intermediate_size=33, head_dim=48),
        TinyLlama(attention_heads=6, kv_heads=1, padding_rows=3),
        TinyLlama(rope_factors=[1.0, 1.5, 2.0, 2.5, 3.0, 5.0, 8.0, 8.0]),
        TinyLlama(
            keys={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0},
        ),
    ],
    ids=["tied", "untied", "odd sizes", "one kv head", "rope factors", "linear scaling"],
)
def test_an_fp32_graph_computes_what_the_reference_does(tmp_path: Path, model: TinyLlama) -> None:
    source = tiny(tmp_path, model)
    logits = session(tmp_path, source).read([TEXT], capacity=64)
    np.testing.assert_allclose(logits, reference(source), atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 2, 7, 39])
@pytest.mark.parametrize("weights", ON_CPU)
def test_a_text_in_chunks_is_the_text_as_a_whole(
    tmp_path: Path, weights: WeightType, chunk: int
) -> None:
    run = session(tmp_path, tiny(tmp_path), Recipe(weights, 32))
    chunks = [TEXT[start : start + chunk] for start in range(0, len(TEXT), chunk)]
    # A single token's attention takes another path in ONNX Runtime; with integer weights the last
    # digit can move an activation to the next of its 255 values.
    tolerance = 1e-4 if weights is WeightType.FP32 else 0.2
    np.testing.assert_allclose(
        run.read(chunks, capacity=64), run.read([TEXT], capacity=64), atol=tolerance
    )


@pytest.mark.parametrize("keep", [1, 3, 40])
def test_the_logits_kept_are_the_last_ones(tmp_path: Path, keep: int) -> None:
    run = session(tmp_path, tiny(tmp_path))
    every, _ = run.run(TEXT, 0, run.empty_cache(64), keep=None)
    kept, _ = run.run(TEXT, 0, run.empty_cache(64), keep=keep)
    assert len(every) == len(TEXT)
    np.testing.assert_allclose(kept, every[-keep:], atol=1e-5)


def test_keeping_0_logits_keeps_all(tmp_path: Path) -> None:
    run = session(tmp_path, tiny(tmp_path))
    every, _ = run.run(TEXT, 0, run.empty_cache(64), keep=None)
    kept, _ = run.run(TEXT, 0, run.empty_cache(64), keep=0)
    np.testing.assert_array_equal(kept, every)


@pytest.mark.parametrize("keep", [1, 3])
def test_what_follows_the_last_attention_is_computed_for_the_kept_tokens_only(
    tmp_path: Path, keep: int
) -> None:
    write_model(tmp_path, tiny(tmp_path), FP32)
    model = ir.load(tmp_path / "model.onnx")
    for layer in range(2):
        [output] = model.graph.node(f"layers.{layer}.feed_forward.product").outputs
        output.dtype = ir.DataType.FLOAT
        model.graph.outputs.append(output)
    ir.save(model, tmp_path / "model.onnx")
    run = PlainSession(tmp_path)
    *_, before, last = run.session.run(
        None,
        {
            "input_ids": TEXT[None],
            "attention_mask": np.ones((1, len(TEXT)), np.int64),
            "num_logits_to_keep": np.array(keep),
            **run.empty_cache(64),
        },
    )
    assert (before.shape[1], last.shape[1]) == (len(TEXT), keep)


def test_the_interface_is_that_of_genai(tmp_path: Path) -> None:
    graph = session(tmp_path, tiny(tmp_path)).session
    past, present = ["batch", 2, "capacity", 16], ["batch", 2, "capacity", 16]
    assert {value.name: (value.type, value.shape) for value in graph.get_inputs()} == {
        "input_ids": ("tensor(int64)", ["batch", "sequence"]),
        "attention_mask": ("tensor(int64)", ["batch", "total"]),
        **{
            f"past_key_values.{layer}.{kind}": ("tensor(float)", past)
            for layer in range(2)
            for kind in ("key", "value")
        },
    }
    assert {value.name: (value.type, value.shape) for value in graph.get_outputs()} == {
        "logits": ("tensor(float)", ["batch", "kept", 272]),
        **{
            f"present.{layer}.{kind}": ("tensor(float)", present)
            for layer in range(2)
            for kind in ("key", "value")
        },
    }
    [optional] = graph.get_overridable_initializers()
    assert (optional.name, optional.type, optional.shape) == (
        "num_logits_to_keep",
        "tensor(int64)",
        [],
    )


@pytest.mark.parametrize("weights", ON_CPU)
@pytest.mark.parametrize("tied", [True, False])
def test_each_weight_lies_once_in_the_data_file_and_on_a_page(
    tmp_path: Path, weights: WeightType, tied: bool
) -> None:
    write_model(tmp_path, tiny(tmp_path, TinyLlama(tied=tied)), Recipe(weights, 32))
    model = ir.load(tmp_path / "model.onnx")
    tensors = [value.const_value for value in model.graph.initializers.values()]
    places = {
        (tensor.offset, tensor.length)
        for tensor in tensors
        if isinstance(tensor, ir.ExternalTensor)
    }
    ends = [0]
    for offset, length in sorted(places):
        assert offset is not None
        assert length is not None
        assert offset % PAGE == 0
        assert offset - PAGE < ends[-1] <= offset
        ends.append(offset + length)
    assert ends[-1] == (tmp_path / "model.onnx.data").stat().st_size
    assert ("head.integers" in model.graph.initializers) == (
        not tied and weights is not WeightType.FP32
    )


@pytest.mark.parametrize("block_format", FORMATS, ids=str)
@pytest.mark.parametrize("inputs", [32, 100, 128, 160, 576])
def test_operators_read_the_blocks_as_they_are_meant(
    tmp_path: Path, block_format: BlockFormat, inputs: int
) -> None:
    random = np.random.default_rng(inputs)
    weights = random.standard_normal((48, inputs)).astype(np.float32)
    # Integers whose largest is 127 in each block: rounding activations to int8 changes nothing.
    rows = random.integers(-127, 128, (5, inputs)).astype(np.float32)
    rows[:, :: block_format.block_size] = 127
    indices = np.array([[0, 47, 3, 3]])
    with DataFile(tmp_path / "model.onnx.data") as data:
        writer = GraphWriter(data)
        matrix = IntegerFormat(block_format, INT8_ACTIVATIONS).store(writer, "matrix", weights)
        given = writer.input("rows", ir.DataType.FLOAT, ["n", inputs])
        places = writer.input("indices", ir.DataType.INT64, ["batch", "n"])
        writer.output(matrix.multiply(given, "product"), ["n", 48])
        writer.output(matrix.gather(places, "gathered"), ["batch", "n", inputs])
        ir.save(writer.model(), tmp_path / "model.onnx")
    product, gathered = PlainSession(tmp_path).session.run(None, {"rows": rows, "indices": indices})
    meant = dequantise(quantise(weights, block_format), block_format, inputs)
    np.testing.assert_array_equal(gathered, meant[indices])
    expected = rows.astype(np.float64) @ meant.astype(np.float64).T
    np.testing.assert_allclose(product, expected, atol=1e-5 * np.abs(rows).sum())


@pytest.mark.parametrize("head_dim", [8, 24, 40])
def test_a_head_that_the_operator_does_not_rotate_is_refused(tmp_path: Path, head_dim: int) -> None:
    with pytest.raises(StartError, match=f"dimensions, not {head_dim}"):
        write_model(tmp_path, tiny(tmp_path, TinyLlama(head_dim=head_dim)), FP32)


@dataclass
class OneAtATime:
    """A source that asserts that no layer is still held when the next one is asked for."""

    source: GgufSource
    before: weakref.ref[Weights] | None = None

    @property
    def spec(self) -> DecoderSpec:
        return self.source.spec

    def embedding(self) -> Weights:
        return self.source.embedding()

    def layer(self, index: int) -> LayerWeights:
        assert self.before is None or self.before() is None
        layer = self.source.layer(index)
        self.before = weakref.ref(layer.down)
        return layer

    def final_norm(self) -> Weights:
        return self.source.final_norm()

    def head(self) -> Weights:
        return self.source.head()


@pytest.mark.parametrize("weights", ON_CPU)
def test_one_layer_at_a_time_is_in_memory(tmp_path: Path, weights: WeightType) -> None:
    source = OneAtATime(tiny(tmp_path, TinyLlama(layers=4)))
    write_model(tmp_path, source, Recipe(weights, 32))
    assert source.before is not None
    assert source.before() is None
