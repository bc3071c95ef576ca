"""Equalising: the same model, with more even channels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_tools.export import write_model
from model_tools.gguf.source import GgufSource
from model_tools.recipe import Recipe, WeightType
from model_tools.verification.reference import Rows, reference_logits, run_layers
from model_tools.weights.calibration_text import calibration_texts
from model_tools.weights.equalise import EqualisedSource, equalised
from tests.model_tools.plain_session import PlainSession
from tests.model_tools.tiny_gguf import TinyLlama

OUTLIERS = np.ones(64, np.float32)
OUTLIERS[[3, 40]] = 100
TIED = TinyLlama(changed_tensors={f"blk.{layer}.attn_norm.weight": OUTLIERS for layer in range(2)})
"""Two of its channels are large wherever attention begins."""
UNTIED = replace(TIED, tied=False)
UNUSED = TinyLlama(
    changed_tensors={
        "blk.0.attn_norm.weight": np.zeros(64, np.float32),
        "blk.0.ffn_down.weight": np.zeros((64, 96), np.float32),
    }
)
random = np.random.default_rng(1)
MEASURED = random.integers(0, 200, 100)
TOKENS = random.integers(0, 200, 60)

BY_MODEL = pytest.mark.parametrize(
    "model", [TIED, UNTIED, UNUSED], ids=["tied", "untied", "unused"]
)


def both(path: Path, model: TinyLlama) -> tuple[GgufSource, EqualisedSource]:
    source = GgufSource.open(model.write(path / "tiny.gguf"))
    return source, equalised(source, [MEASURED], lambda: None)


def logits(source: GgufSource | EqualisedSource) -> Rows:
    [rows] = reference_logits(source, [TOKENS])
    return rows


@BY_MODEL
def test_the_model_is_the_same(tmp_path: Path, model: TinyLlama) -> None:
    source, even = both(tmp_path, model)
    np.testing.assert_allclose(logits(even), logits(source), atol=1e-3)


@pytest.mark.parametrize("model", [TIED, UNTIED], ids=["tied", "untied"])
def test_activations_are_more_even_wherever_a_matrix_reads_them(
    tmp_path: Path, model: TinyLlama
) -> None:
    before, after = (run_layers(source, [TOKENS]) for source in both(tmp_path, model))
    for old, new in zip(before, after, strict=True):
        for name in ("attention_input", "attended", "feed_forward_input", "gated"):
            assert unevenness(getattr(new, name)) < unevenness(getattr(old, name)), name


@pytest.mark.parametrize("weights", [WeightType.INT8, WeightType.INT4])
def test_rounding_loses_less(tmp_path: Path, weights: WeightType) -> None:
    source, even = both(tmp_path, TIED)
    errors = []
    for name, each in (("source", source), ("even", even)):
        (tmp_path / name).mkdir()
        write_model(tmp_path / name, each, Recipe(weights, 32))
        found = PlainSession(tmp_path / name).read([TOKENS], capacity=64)
        errors.append(np.square(found - logits(source)).mean())
    assert errors[1] < 0.8 * errors[0]


def test_texts_fit_into_the_context(tmp_path: Path) -> None:
    source, _ = both(tmp_path, TIED)
    for text in calibration_texts(source.spec, lambda text: list(range(len(text)))):
        assert 0 < len(text) <= source.spec.context_length


def unevenness(activations: Rows) -> float:
    """The largest of the channels' peaks, divided by their mean."""
    peaks = np.abs(activations).max(axis=0)
    return float(peaks.max() / peaks.mean())
