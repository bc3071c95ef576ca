"""A sampler that is told of a row's largest logits chooses as it does from the whole row."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from server.config import SamplingParameters
from server.engine.sampling import Sampler, sample, verify
from server.model.candidates import Candidates
from tests.engine.rows import Device, Row
from tests.engine.test_sampling import NO_PROMPT, parameters, rows

asked = st.builds(
    replace,
    parameters,
    temperature=st.sampled_from([0.0, 1e-300, 1e-3, 0.3, 0.7, 1.0, 1.7]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 0.5, 1.1, 3.0]),
)
prompts = st.lists(st.integers(0, 3000), max_size=60)


def peaked(width: int, seed: int, scale: float) -> Row:
    """Logits as a model's: a few large ones, a long tail."""
    random = np.random.default_rng(seed)
    return (random.gumbel(size=width) * scale).astype(np.float32)


model_rows = st.builds(
    peaked, st.just(5000), st.integers(0, 10**6), st.sampled_from([1.0, 1.5, 2.0, 4.0])
)


@settings(max_examples=600)
@given(
    row=rows | model_rows,
    parameters=asked,
    prompt=prompts,
    count=st.sampled_from([1, 2, 5, 64]),
    seed=st.integers(0, 99),
)
def test_the_token_is_that_of_the_whole_row(
    row: Row, parameters: SamplingParameters, prompt: list[int], count: int, seed: int
) -> None:
    """Whatever is asked for, and in whatever order equal logits are told; over several tokens, so
    that both samplers' generators and penalties stay side by side."""
    assume(np.isfinite(row.max()))
    seen = np.array([token for token in prompt if token < len(row)], np.int64)
    alone, told = Sampler(parameters, seen), Sampler(parameters, seen)
    device = Device(count, seed)
    for _ in range(4):
        assert told.choose_among(device.tell(row)) == alone.choose(row.copy())


@pytest.mark.parametrize(
    ("parameters", "most"),
    [
        (SamplingParameters(), 0),
        (SamplingParameters(repetition_penalty=1.1), 0),
        (SamplingParameters(temperature=1, top_k=40), 0),
        (SamplingParameters(temperature=0.7, top_k=40, top_p=0.9, min_p=0.05), 0),
        (SamplingParameters(temperature=1, min_p=0.05), 0),
        (SamplingParameters(temperature=1, top_p=0.9), 20),
        (SamplingParameters(temperature=1, top_p=0.9, repetition_penalty=1.1), 100),
        (SamplingParameters(temperature=0.7), 40),
        (SamplingParameters(temperature=0.7, repetition_penalty=1.1), 40),
    ],
    ids=str,
)
def test_the_whole_row_is_seldom_asked_for(parameters: SamplingParameters, most: int) -> None:
    """Of 200 rows whose 64 largest logits hold nearly all of the probability."""
    device, sampler = Device(64), Sampler(replace(parameters, seed=0), np.arange(100))
    for seed in range(200):
        sampler.choose_among(device.tell(peaked(5000, seed, 2.0)))
    assert device.fetched <= most


@pytest.mark.parametrize(
    "parameters",
    [
        SamplingParameters(temperature=1, top_k=65),
        SamplingParameters(temperature=1, top_p=0.999),
        SamplingParameters(temperature=1, min_p=1e-6),
        SamplingParameters(temperature=1.5),
        SamplingParameters(repetition_penalty=0.5),
    ],
    ids=str,
)
def test_what_the_candidates_do_not_hold_is_looked_up(parameters: SamplingParameters) -> None:
    device = Device(64)
    Sampler(parameters, np.arange(9)).choose_among(device.tell(peaked(5000, 0, 1.0)))
    assert device.fetched == 1


def test_equal_logits_beyond_the_candidates_are_looked_up() -> None:
    """The first of the largest wins, and it may be one that was left out."""
    row = np.zeros(100, np.float32)
    device = Device(8, seed=1)
    assert Sampler(SamplingParameters(), NO_PROMPT).choose_among(device.tell(row)) == 0
    assert device.fetched == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_sum_that_is_no_number_gives_no_token(bad: float, temperature: float) -> None:
    row = np.array([1, bad, 3, -np.inf], np.float32)
    sampler = Sampler(SamplingParameters(temperature=temperature), NO_PROMPT)
    assert sampler.choose_among(Device(2).tell(row)) is None


def told(rows: list[Row]) -> list[Candidates]:
    device = Device(64)
    return [device.tell(row) for row in rows]


def test_rows_that_are_told_of_are_sampled_and_verified_as_others_are() -> None:
    parameters = SamplingParameters(temperature=1, top_k=20, seed=5)
    batch = [peaked(5000, seed, 2.0) for seed in range(4)]
    samplers = [[Sampler(parameters, NO_PROMPT) for _ in batch] for _ in range(2)]
    assert sample(told(batch), samplers[0]) == sample(np.array(batch), samplers[1])
    drafts = [int(row.argmax()) for row in batch[:3]]
    for draft in (tuple(drafts), (drafts[0], -1, -1)):
        greedy = Sampler(SamplingParameters(), NO_PROMPT)
        chosen = verify(np.array(batch), draft, greedy)
        assert verify(told(batch), draft, greedy) == chosen
