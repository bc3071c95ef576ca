"""Values as large as keys, in the same model."""

from pathlib import Path

import numpy as np
import pytest

from model_tools.gguf.source import GgufSource
from model_tools.verification.reference import reference_logits, run_layers
from model_tools.weights.kv_scales import LARGEST, BalancedSource, Peaks, balanced
from tests.model_tools.tiny_gguf import TinyLlama

TEXTS = [np.random.default_rng(3).integers(0, 270, 50), np.arange(30)]


@pytest.fixture
def source(tmp_path: Path) -> GgufSource:
    return GgufSource.open(TinyLlama(seed=2).write(tmp_path / "tiny.gguf"))


def test_values_become_as_large_as_keys_and_one_scale_fits_both(source: GgufSource) -> None:
    done: list[None] = []
    even = balanced(source, TEXTS, lambda: done.append(None))
    assert len(done) == source.spec.layers
    for run, scale in zip(run_layers(even, TEXTS), even.scales, strict=True):
        for rows in (run.keys, run.values):
            assert np.abs(rows).max() == pytest.approx(LARGEST * scale, rel=1e-4)


def test_the_model_is_the_same(source: GgufSource) -> None:
    even = balanced(source, TEXTS, lambda: None)
    pairs = zip(reference_logits(source, TEXTS), reference_logits(even, TEXTS), strict=True)
    for expected, actual in pairs:
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_a_layer_of_zeros_has_a_scale_all_the_same(source: GgufSource) -> None:
    even = BalancedSource(source, [Peaks(0, 0), Peaks(1, 0)])
    assert all(scale > 0 for scale in even.scales)
    assert all(np.isfinite(even.layer(index).v).all() for index in range(2))
