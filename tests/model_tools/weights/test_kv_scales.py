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


def test_one_scale_fits_keys_and_values(source: GgufSource) -> None:
    done: list[None] = []
    even = balanced(source, TEXTS, lambda: done.append(None))
    assert len(done) == source.spec.layers
    for run, scale in zip(run_layers(even, TEXTS), even.scales, strict=True):
        largest = pytest.approx(LARGEST * scale, rel=1e-4)
        assert np.abs(run.keys).max() == largest
        by_head = np.abs(run.values).reshape(-1, source.spec.kv_heads, source.spec.head_dim)
        assert by_head.max((0, 2)) == largest


def test_small_keys_come_half_as_far_from_the_largest(source: GgufSource) -> None:
    even = balanced(source, TEXTS, lambda: None)
    for before, after in zip(run_layers(source, TEXTS), run_layers(even, TEXTS), strict=True):
        peaks, moved = (
            np.abs(run.keys).reshape(-1, source.spec.kv_heads, source.spec.head_dim // 2, 2)
            for run in (before, after)
        )
        expected = np.sqrt(peaks.max() * peaks.max((0, 3)))
        np.testing.assert_allclose(moved.max((0, 3)), expected, rtol=1e-3)


def test_the_model_is_the_same(source: GgufSource) -> None:
    even = balanced(source, TEXTS, lambda: None)
    pairs = zip(reference_logits(source, TEXTS), reference_logits(even, TEXTS), strict=True)
    for expected, actual in pairs:
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_a_layer_of_zeros_has_a_scale_all_the_same(source: GgufSource) -> None:
    spec = source.spec
    zeros = np.zeros((3, spec.kv_heads * spec.head_dim), np.float32)
    even = BalancedSource(source, [Peaks.of(spec, zeros, zeros), Peaks.of(spec, zeros + 1, zeros)])
    assert all(scale > 0 for scale in even.scales)
    for layer in (even.layer(0), even.layer(1)):
        assert all(np.isfinite(each).all() for each in (layer.q, layer.k, layer.v, layer.o))
