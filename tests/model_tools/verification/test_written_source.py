"""Written weights are read back as the values that their bytes stand for."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from model_tools.decoder_spec import Weights, WeightSource
from model_tools.export import write_model
from model_tools.gguf.source import GgufSource
from model_tools.graph.rotary import half_rotated, interleaved
from model_tools.recipe import FloatType, Recipe, Target, WeightType
from model_tools.verification.written_source import WrittenSource
from tests.model_tools.tiny_gguf import TinyLlama


def arrays(source: WeightSource) -> dict[str, Weights]:
    layer = source.layer(1)
    return {
        "embedding": source.embedding(),
        "head": source.head(),
        "final_norm": source.final_norm(),
        **{each.name: getattr(layer, each.name) for each in fields(layer)},
    }


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("recipe", "step"),
    [
        (Recipe(WeightType.FP32, 32), 0),
        (Recipe(WeightType.FP16, 32, Target.CUDA, FloatType.FP16), 2**-11),
        (Recipe(WeightType.BF16, 32, Target.CUDA, FloatType.BF16), 2**-8),
        (Recipe(WeightType.INT8, 32, Target.CUDA, FloatType.BF16), 1 / 127),
        (Recipe(WeightType.INT4, 32, Target.CUDA, FloatType.FP16), 1 / 8),
    ],
    ids=["fp32", "fp16", "bf16", "int8", "int4"],
)
def test_weights_come_back_but_for_their_rounding(
    tmp_path: Path, recipe: Recipe, step: float, tied: bool
) -> None:
    model = TinyLlama(tied=tied, hidden_size=50, intermediate_size=33, head_dim=48)
    source = GgufSource.open(model.write(tmp_path / "tiny.gguf"))
    write_model(tmp_path, source, recipe)
    written = arrays(WrittenSource.open(tmp_path / "model.onnx", source.spec))
    for name, expected in arrays(source).items():
        furthest = step * np.abs(expected).max()
        np.testing.assert_allclose(written[name], expected, rtol=0, atol=furthest, err_msg=name)


def test_rotary_order_has_a_way_back() -> None:
    rows = np.random.default_rng(0).standard_normal((3 * 48, 7)).astype(np.float32)
    there = half_rotated(rows, 48)
    assert not np.array_equal(there, rows)
    np.testing.assert_array_equal(interleaved(there, 48), rows)
