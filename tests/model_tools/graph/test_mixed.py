"""Rows and a piece of a prompt in one call: the same bits as in a call for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from model_tools.export import MIXED_FILE, MODEL_FILE, write_model
from model_tools.gguf.source import GgufSource
from model_tools.recipe import Recipe, Target, WeightType
from tests.model_tools.plain_session import PlainSession
from tests.model_tools.tiny_gguf import TinyLlama

Arrays = Mapping[str, NDArray[np.generic]]
CAPACITY = 128
VOCABULARY = 270
"""Tokens that every model here has."""
SHAPES = [(1, 1), (1, 2), (1, 40), (2, 1), (3, 7), (8, 1), (8, 33)]


@dataclass(frozen=True, slots=True)
class Part:
    """Sequences for one call of model.onnx, with the keys and values of their past."""

    tokens: NDArray[np.int64]
    """[batch, new tokens]."""
    totals: NDArray[np.int64]
    """[batch]: tokens, past and new."""
    cache: Arrays

    @classmethod
    def random(cls, model: PlainSession, batch: int, length: int, seed: int) -> "Part":
        random = np.random.default_rng(seed)
        cache = {
            name: random.standard_normal((batch, *empty.shape[1:]), np.float32)
            for name, empty in model.empty_cache(CAPACITY).items()
        }
        tokens = random.integers(0, VOCABULARY, (batch, length))
        return cls(tokens, random.integers(0, CAPACITY - length, batch) + length, cache)

    @property
    def mask(self) -> NDArray[np.int64]:
        return (np.arange(max(self.totals)) < self.totals[:, None]).astype(np.int64)

    def written(self, present: Arrays, prefix: str = "") -> list[NDArray[np.generic]]:
        """Keys and values of each sequence, past and new."""
        return [
            present[f"{prefix}{name.replace('past_key_values', 'present')}"][row, :, :total]
            for name in self.cache
            for row, total in enumerate(self.totals)
        ]


def run(graph: PlainSession, feeds: Arrays) -> Arrays:
    return dict(zip(graph.outputs, graph.session.run(None, dict(feeds)), strict=True))


def run_alone(model: PlainSession, part: Part, keep: int) -> Arrays:
    fed = {"input_ids": part.tokens, "attention_mask": part.mask}
    return run(model, {**fed, "num_logits_to_keep": np.array(keep), **part.cache})


def run_mixed(mixed: PlainSession, rows: Part, piece: Part, keep: int) -> Arrays:
    prompt_past = {
        name.replace("past_key_values", "prompt_past"): kv for name, kv in piece.cache.items()
    }
    fed = {
        "input_ids": np.concatenate([rows.tokens.reshape(1, -1), piece.tokens], axis=1),
        "attention_mask": rows.mask,
        "prompt_mask": piece.mask,
        "prompt_logits_to_keep": np.array(keep),
    }
    return run(mixed, {**fed, **rows.cache, **prompt_past})


def assert_same_bits(model: PlainSession, mixed: PlainSession, count: int, length: int) -> None:
    rows, piece = Part.random(model, count, 1, seed=1), Part.random(model, 1, length, seed=2)
    for keep in {0, 1, length}:
        found = run_mixed(mixed, rows, piece, keep)
        rows_alone, piece_alone = run_alone(model, rows, 1), run_alone(model, piece, keep or 1)
        [logits] = found["logits"]
        assert len(logits) == count + keep
        assert np.isfinite(logits).all()
        np.testing.assert_array_equal(logits[:count], rows_alone["logits"][:, 0])
        np.testing.assert_array_equal(logits[count:], piece_alone["logits"][0][:keep])
        for here, alone in (
            *zip(rows.written(found), rows.written(rows_alone), strict=True),
            *zip(piece.written(found, "prompt_"), piece.written(piece_alone), strict=True),
        ):
            np.testing.assert_array_equal(here, alone)


def write(place: Path, recipe: Recipe, model: TinyLlama | None = None) -> None:
    source = GgufSource.open((model or TinyLlama()).write(place / "tiny.gguf"))
    write_model(place, source, recipe)


@pytest.mark.parametrize("weights", [WeightType.FP32, WeightType.INT8, WeightType.INT4])
@pytest.mark.parametrize("tied", [True, False])
def test_each_part_has_the_bits_of_a_call_of_its_own(
    tmp_path: Path, weights: WeightType, tied: bool
) -> None:
    write(tmp_path, Recipe(weights, 32), TinyLlama(tied=tied))
    model, mixed = PlainSession(tmp_path), PlainSession(tmp_path, MIXED_FILE)
    for count, length in SHAPES:
        assert_same_bits(model, mixed, count, length)


@pytest.mark.parametrize(("count", "length"), SHAPES)
def test_so_it_is_in_the_default_model(int8_folder: Path, count: int, length: int) -> None:
    model, mixed = PlainSession(int8_folder), PlainSession(int8_folder, MIXED_FILE)
    assert_same_bits(model, mixed, count, length)


def test_more_logits_than_the_piece_has_are_refused(tmp_path: Path) -> None:
    write(tmp_path, Recipe(WeightType.INT8, 32))
    model, mixed = PlainSession(tmp_path), PlainSession(tmp_path, MIXED_FILE)
    rows, piece = Part.random(model, 2, 1, seed=1), Part.random(model, 1, 3, seed=2)
    with pytest.raises(Exception, match="split"):
        run_mixed(mixed, rows, piece, keep=4)


@pytest.mark.parametrize("weights", [WeightType.FP32, WeightType.INT8])
def test_both_graphs_have_the_same_weights_in_the_same_file(
    tmp_path: Path, weights: WeightType
) -> None:
    write(tmp_path, Recipe(weights, 32))
    assert initializers(tmp_path / MIXED_FILE) == initializers(tmp_path / MODEL_FILE)


def initializers(graph_file: Path) -> dict[str, tuple[str, int | None, int | None]]:
    """Those in a data file, as file, offset, length; no other is as large as a row of weights."""
    places = {}
    for name, value in ir.load(graph_file).graph.initializers.items():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            places[name] = (str(tensor.location), tensor.offset, tensor.length)
        else:
            assert tensor is not None
            assert tensor.nbytes <= 24
    return places


def test_the_interface(tmp_path: Path) -> None:
    write(tmp_path, Recipe(WeightType.INT8, 32))
    graph = PlainSession(tmp_path, MIXED_FILE).session
    pairs = [f"{layer}.{kind}" for layer in range(2) for kind in ("key", "value")]
    rows, prompt = ["batch", 2, "capacity", 16], [1, 2, "prompt_capacity", 16]
    assert {value.name: (value.type, value.shape) for value in graph.get_inputs()} == {
        "input_ids": ("tensor(int64)", [1, "tokens"]),
        "attention_mask": ("tensor(int64)", ["batch", "total"]),
        "prompt_mask": ("tensor(int64)", [1, "prompt_total"]),
        "prompt_logits_to_keep": ("tensor(int64)", []),
        **{f"past_key_values.{pair}": ("tensor(float)", rows) for pair in pairs},
        **{f"prompt_past.{pair}": ("tensor(float)", prompt) for pair in pairs},
    }
    assert {value.name: (value.type, value.shape) for value in graph.get_outputs()} == {
        "logits": ("tensor(float)", [1, "kept", 272]),
        **{f"present.{pair}": ("tensor(float)", rows) for pair in pairs},
        **{f"prompt_present.{pair}": ("tensor(float)", prompt) for pair in pairs},
    }
    assert not graph.get_overridable_initializers()


def test_onnx_finds_nothing_wrong(tmp_path: Path) -> None:
    """Neither the order of nodes nor the shapes between them."""
    write(tmp_path, Recipe(WeightType.FP32, 32))
    model = onnx.load(tmp_path / MIXED_FILE)
    for node in model.graph.node:
        if node.op_type == "SimplifiedLayerNormalization":
            node.domain = "com.microsoft"  # ONNX Runtime's own, though in the standard's domain
    onnx.checker.check_model(model)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def test_a_graph_for_cuda_has_no_mixed_one(tmp_path: Path) -> None:
    write(tmp_path, Recipe.of(Target.CUDA, None, None, None))
    assert (tmp_path / MODEL_FILE).exists()
    assert not (tmp_path / MIXED_FILE).exists()
