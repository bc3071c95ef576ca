"""The bound lets rounding through and nothing that is wrong with a graph."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_tools.decoder_spec import RotarySpec
from model_tools.export import write_model
from model_tools.folder_format import FORMAT_VERSION
from model_tools.gpu_check.loaded import LoadedModel, exported
from model_tools.gpu_check.nearness import (
    CpuReference,
    decoded,
    greedy_against,
    logits_against,
    read,
)
from model_tools.gpu_check.setting import Kind
from model_tools.gpu_check.shapes import TINY
from model_tools.gpu_check.streams import random_prompt
from model_tools.progress import unseen
from model_tools.recipe import KvType, WeightType
from model_tools.weights.kv_scales import BalancedSource, Peaks
from model_tools.weights.random_source import RandomSource
from server.config import CPU
from server.model.gpu.decoder import DeviceDecoder

TEXTS = [random_prompt(TINY.vocabulary_size, 40, seed) for seed in range(3)]
INT8_KV = Kind(WeightType.FP16, kv=KvType.INT8)


def opened(place: Path, source: RandomSource, kind: Kind) -> DeviceDecoder:
    folder = exported(place, "model", source, kind.recipe(), unseen)
    return LoadedModel(folder, CPU, threads=1, cuda_graphs=True).decoder(slots=3, context=64)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> CpuReference:
    place = tmp_path_factory.mktemp("reference")
    return CpuReference(opened(place, RandomSource(TINY), Kind(WeightType.FP16)), TEXTS, 8)


def test_a_text_reads_the_same_token_by_token(reference: CpuReference) -> None:
    for whole, tail in zip(reference.logits, decoded(reference.decoder, TEXTS, 8), strict=True):
        np.testing.assert_allclose(tail, whole[8:], atol=0.1)
        assert len(whole) == len(tail) + 8 == 39


@pytest.mark.parametrize("kind", [Kind(WeightType.INT8), INT8_KV], ids=str)
def test_eight_bits_are_near_enough(tmp_path: Path, reference: CpuReference, kind: Kind) -> None:
    decoder = opened(tmp_path, RandomSource(TINY), kind)
    for finding in logits_against("tiny", reference, decoder):
        assert "WRONG" not in finding.note


def test_another_rope_is_wrong(tmp_path: Path, reference: CpuReference) -> None:
    turned = replace(TINY, rotary=RotarySpec(10_000.0, TINY.head_dim))
    decoder = opened(tmp_path, RandomSource(turned), Kind(WeightType.FP16))
    for finding in logits_against("tiny", reference, decoder):
        assert "WRONG, more than 0.02 is not rounding" in finding.note
        assert finding.failed
    for is_16_bit in (True, False):
        tokens = greedy_against("tiny", reference, decoder, is_16_bit=is_16_bit)
        assert tokens.failed == is_16_bit == ("WRONG" in tokens.note)


def test_a_scale_that_is_too_small_is_wrong(tmp_path: Path, reference: CpuReference) -> None:
    place = tmp_path / f"model-v{FORMAT_VERSION}"
    place.mkdir()
    keys, values = np.full((TINY.kv_heads, TINY.head_dim // 2), 2), np.full((TINY.kv_heads, 1), 2)
    small = Peaks(keys.astype(np.float32), values.astype(np.float32))
    clipped = BalancedSource(RandomSource(TINY), [small] * TINY.layers)
    write_model(place, clipped, INT8_KV.recipe())
    decoder = opened(tmp_path, RandomSource(TINY), INT8_KV)
    for finding in logits_against("tiny", reference, decoder):
        assert "WRONG" in finding.note


def test_what_is_no_number_is_wrong(reference: CpuReference) -> None:
    broken = CpuReference(reference.decoder, TEXTS, 8)
    broken.logits = [np.full_like(rows, np.nan) for rows in broken.logits]
    for finding in logits_against("tiny", broken, reference.decoder):
        assert "WRONG" in finding.note
    assert np.isfinite(read(reference.decoder, TEXTS[0])).all()
