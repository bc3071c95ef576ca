"""Draws from candidates are those from whole rows, and what is fetched is counted."""

from pathlib import Path

import numpy as np
import pytest

from model_tools.gpu_check.checks import drawn_against_whole_rows, in_a_mix
from model_tools.gpu_check.drawing import (
    DRAWN,
    FLAT,
    NARROW_NUCLEUS,
    ComparedSampler,
    CountingSampler,
    Tally,
    in_words,
)
from model_tools.gpu_check.loaded import LoadedModel, exported
from model_tools.gpu_check.setting import Kind
from model_tools.gpu_check.shapes import TINY
from model_tools.progress import unseen
from model_tools.recipe import WeightType
from model_tools.weights.random_source import RandomSource
from server.config import CPU, SamplingParameters
from server.engine.sampling import Sampler
from server.model.candidates import Candidates
from server.model.gpu.decoder import DeviceDecoder
from tests.model.gpu.fake_device import FakeDevice


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> DeviceDecoder:
    place: Path = tmp_path_factory.mktemp("tiny")
    recipe = Kind(WeightType.FP16).recipe()
    folder = exported(place, "tiny", RandomSource(TINY), recipe, unseen)
    return LoadedModel(folder, CPU, threads=1, cuda_graphs=True).decoder(slots=4, context=128)


@pytest.mark.parametrize("sampling", DRAWN, ids=in_words)
def test_on_the_cpu_as_a_device_no_draw_differs(
    decoder: DeviceDecoder, sampling: SamplingParameters
) -> None:
    finding = drawn_against_whole_rows("tiny", decoder, 20, 4, sampling)
    fetched = {NARROW_NUCLEUS: "; 0 of 80 rows", FLAT: "; 80 of 80 rows"}.get(sampling, "rows")
    assert finding.note.startswith("0 of 80 tokens differ")
    assert fetched in finding.note
    assert in_words(sampling) in finding.what
    mixed = in_a_mix("tiny", decoder, 20, 6, sampling)
    assert mixed.note == "0 of 20 tokens differ beside 6 others"


@pytest.mark.parametrize("sampling", DRAWN, ids=in_words)
@pytest.mark.parametrize("always_ahead", [False, True])
def test_on_a_device_that_does_things_later_no_draw_differs(
    sampling: SamplingParameters, always_ahead: bool
) -> None:
    """With calls made ahead, each row that is compared was written over, and is made again."""
    device = FakeDevice(slots=4, always_ahead=always_ahead)
    finding = drawn_against_whole_rows("fake", device.decoder, 20, 4, sampling)
    assert finding.note.startswith("0 of 80 tokens differ")
    assert not finding.failed
    mixed = in_a_mix("fake", device.decoder, 20, 6, sampling)
    assert mixed.note == "0 of 20 tokens differ beside 6 others"


def test_draws_that_differ_are_a_failure(
    decoder: DeviceDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sampler, "choose", lambda *_: -1)  # what is chosen from whole rows
    finding = drawn_against_whole_rows("tiny", decoder, 20, 4, NARROW_NUCLEUS)
    assert finding.note.startswith("80 of 80 tokens differ")
    assert finding.failed


def candidates(row: np.ndarray[tuple[int], np.dtype[np.float32]], shift: int) -> Candidates:
    ids = np.argsort(-row)[:8]
    log_sum_exp = float(np.log(np.exp(row).sum()))
    shifted = (ids + shift) % len(row)
    return Candidates(shifted, row[ids], log_sum_exp, int(shifted[0]), row.copy)


@pytest.mark.parametrize(("shift", "differing"), [(0, 0), (1, 100)])
def test_candidates_of_another_row_are_found_out(shift: int, differing: int) -> None:
    tally, prompt = Tally(), np.arange(2)
    sharp = SamplingParameters(temperature=0.8, top_k=4, seed=1)
    sampler = ComparedSampler(sharp, prompt, tally)
    for seed in range(100):
        row = np.random.default_rng(seed).standard_normal(50, dtype=np.float32)
        sampler.choose_among(candidates(row, shift))
    assert (tally.rows, tally.fetched) == (100, 0)
    # Now and then the choice among shifted ids is the right token by chance.
    assert differing * 0.6 <= tally.differing <= differing


def test_rows_are_counted_once_where_the_choice_is_open() -> None:
    tally = Tally()
    sampler = CountingSampler(SamplingParameters(temperature=2.0, seed=1), np.arange(2), tally)
    row = np.random.default_rng(0).standard_normal(50, dtype=np.float32)
    for _ in range(3):
        sampler.choose_among(candidates(row, 0))
    assert str(tally) == "3 of 3 rows fetched whole"


def test_what_was_asked_for_in_words() -> None:
    assert in_words(SamplingParameters(seed=3)) == "greedy"
    assert in_words(NARROW_NUCLEUS) == "temperature 0.8, top-k 40, top-p 0.95"
