"""The fast sampler draws what the naive one does."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from server.config import SamplingParameters
from server.engine.distribution import Row, draw
from server.engine.sampling import Sampler, sample
from tests.engine.naive_sampler import SLACK, filters, interval, kept_tokens, penalised

NO_PROMPT: NDArray[np.int64] = np.array([], np.int64)

extremes = st.sampled_from([-np.inf, -1e30, -80.0, -0.0, 0.0, 1.0, 1.5, 80.0, 1e30])
written = st.lists(extremes | st.floats(-20, 20, width=32), min_size=1, max_size=70)


@st.composite
def drawn_rows(ask: st.DrawFn) -> Row:
    """As a model gives them, of any width; coarse ones have many ties, and sorted ones their
    largest logits at the end."""
    source = np.random.default_rng(ask(st.integers(0, 10**6)))
    width = ask(st.sampled_from([1, 2, 65, 511, 512, 513, 3000, 6000]))
    values = source.normal(scale=ask(st.sampled_from([0.1, 1, 6])), size=width)
    if ask(st.booleans()):
        values.sort()
    step = ask(st.sampled_from([0, 0.25, 2]))
    return (values if not step else values // step * step).astype(np.float32)


rows = drawn_rows() | written.map(lambda values: np.array(values, np.float32))
parameters = st.builds(
    SamplingParameters,
    temperature=st.sampled_from([1e-3, 0.3, 1.0, 1.7, 100.0]),
    top_k=st.sampled_from([0, 1, 2, 40, 600, 2000]),
    top_p=st.sampled_from([0.0, 1e-6, 0.1, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 1e-4, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 2**64),
)


def surely_and_perhaps_kept(row: Row, asked: SamplingParameters) -> tuple[list[int], list[int]]:
    """The naive ones just inside and just outside of the bounds that were asked for. Where nothing
    lies on a bound but for rounding, they are the same."""
    inside = replace(asked, min_p=asked.min_p * (1 + SLACK), top_p=asked.top_p * (1 - SLACK))
    outside = replace(asked, min_p=asked.min_p * (1 - SLACK), top_p=asked.top_p * (1 + SLACK))
    return kept_tokens(row.tolist(), inside), kept_tokens(row.tolist(), outside)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (SamplingParameters(top_k=2), {1, 3}),  # of equal ones the lower id
        (SamplingParameters(top_k=3), {1, 3, 4}),
        (SamplingParameters(min_p=1), {1, 3, 4}),
        (SamplingParameters(top_p=0), {1}),
        (SamplingParameters(top_p=0.5), {1, 3}),  # of shares 0.3, 0.3, 0.3, 0.06, 0.04
        (SamplingParameters(top_k=2, top_p=0.49), {1}),  # 0.5 of what top-k left
        (SamplingParameters(min_p=0.2), {1, 2, 3, 4}),
    ],
)
def test_what_can_be_drawn(asked: SamplingParameters, expected: set[int]) -> None:
    row = np.log(np.array([0.04, 0.3, 0.061, 0.3, 0.3], np.float32))
    hot = replace(asked, temperature=100)  # each of those kept has about the same share
    assert {draw(row, hot, chance) for chance in np.linspace(0, 1, 50, endpoint=False)} == expected


@settings(max_examples=500)
@given(row=rows, asked=parameters)
def test_a_draw_is_by_the_naive_distribution(row: Row, asked: SamplingParameters) -> None:
    assume(np.isfinite(row.max()))
    surely, perhaps = surely_and_perhaps_kept(row, asked)
    token = Sampler(asked, NO_PROMPT).choose(row.copy())
    assert token in perhaps
    if surely == perhaps:
        order = surely if filters(len(row), asked) else sorted(surely)
        chance = random.Random(asked.seed).random()
        assert interval(row.tolist(), order, asked.temperature, token).has(chance)


class Chance:
    """A random generator that gives one number."""

    def __init__(self, chance: float) -> None:
        self.chance = chance

    def random(self) -> float:
        return self.chance


@settings(max_examples=200)
@given(data=st.data(), width=st.integers(2, 1200), filtered=st.booleans())
def test_what_has_no_probability_is_never_drawn(
    data: st.DataObject, width: int, filtered: bool
) -> None:
    """Not even where the chance falls on the bound between two tokens, or on the last one."""
    source = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    row = source.normal(size=width).astype(np.float32)
    row[source.random(width) < data.draw(st.sampled_from([0.5, 0.99]))] = -np.inf
    assume(np.isfinite(row.max()))
    weights = np.exp(row.astype(np.float64) - row.max())
    bounds = np.concatenate([[0], np.cumsum(weights) / weights.sum()])
    near = bounds[data.draw(st.integers(0, width))]
    step = data.draw(st.integers(-3, 3)) * 6e-8 * data.draw(st.sampled_from([0, 1e-9, 1]))
    chance = min(max(0.0, near + step), np.nextafter(1, 0))
    sampler = Sampler(
        SamplingParameters(temperature=1, top_k=width - 1 if filtered else 0), NO_PROMPT
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "_random", Chance(chance))
        token = sampler.choose(row)
    assert token is not None
    assert np.isfinite(row[token])


def test_draws_follow_the_distribution() -> None:
    row = np.log(np.array([0.5, 0.3, 0.15, 0.05, 1e-9], np.float32))
    sampler = Sampler(SamplingParameters(temperature=1, seed=1), NO_PROMPT)
    tokens = [sampler.choose(row.copy()) for _ in range(4000)]
    shares = np.bincount(np.array(tokens, np.int64), minlength=5) / len(tokens)
    np.testing.assert_allclose(shares, np.exp(row), atol=0.02)


@pytest.mark.parametrize("temperature", [1e-300, 1e-46, 1e-39, 1e-10])
@pytest.mark.parametrize("top_k", [0, 3])
def test_the_coldest_draw_is_the_greedy_one(temperature: float, top_k: int) -> None:
    row = np.array([1, -np.inf, 9, 8.5, -1e30], np.float32)
    sampler = Sampler(SamplingParameters(temperature=temperature, top_k=top_k), NO_PROMPT)
    assert [sampler.choose(row.copy()) for _ in range(5)] == [2] * 5


@given(asked=parameters, seeds=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_a_seed_gives_the_same_tokens_whatever_else_is_drawn(
    asked: SamplingParameters, seeds: tuple[int, int]
) -> None:
    rows = np.random.default_rng(0).normal(size=(6, 2, 300)).astype(np.float32)
    one, other = (replace(asked, seed=seed) for seed in seeds)
    mixed = [Sampler(one, NO_PROMPT), Sampler(other, NO_PROMPT)]
    tokens = [sample(pair.copy(), mixed) for pair in rows]
    alone = Sampler(one, NO_PROMPT)
    assert [pair[0] for pair in tokens] == [alone.choose(pair[0].copy()) for pair in rows]


def test_without_a_seed_two_samplers_differ() -> None:
    row = np.zeros(1000, np.float32)
    one, other = (Sampler(SamplingParameters(temperature=1), NO_PROMPT) for _ in range(2))
    assert [one.choose(row) for _ in range(9)] != [other.choose(row) for _ in range(9)]


@given(row=rows, asked=parameters)
def test_greedy_is_the_first_of_the_largest_whatever_else_is_asked(
    row: Row, asked: SamplingParameters
) -> None:
    assume(np.isfinite(row.max()))
    token = Sampler(replace(asked, temperature=0), NO_PROMPT).choose(row.copy())
    assert token == max(range(len(row)), key=lambda each: (row[each], -each))


@given(
    penalty=st.sampled_from([0.5, 1.0, 1.1, 2.0]),
    prompt=st.lists(st.integers(0, 9), max_size=5),
    seed=st.integers(0, 99),
)
def test_the_penalty_is_on_each_token_of_the_prompt_and_each_that_was_chosen(
    penalty: float, prompt: list[int], seed: int
) -> None:
    asked = SamplingParameters(repetition_penalty=penalty)
    sampler = Sampler(asked, np.array(prompt, np.int64))
    seen = set(prompt)
    for row in np.random.default_rng(seed).normal(size=(12, 10)).astype(np.float32):
        expected = penalised(row, seen, penalty)
        token = sampler.choose(row)
        np.testing.assert_allclose(row, expected, rtol=1e-6)
        assert token == row.argmax()
        seen.add(int(row.argmax()))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("top_k", [0, 2, 40, 600, 2000])
@pytest.mark.parametrize(("width", "places"), [(4, [1]), (6100, [0, 3000, 6099])])
def test_logits_that_are_no_numbers_give_no_token(
    bad: float, temperature: float, top_k: int, width: int, places: list[int]
) -> None:
    for place in places:
        row = np.linspace(0, 3, width, dtype=np.float32)
        row[-2], row[place] = -np.inf, bad
        asked = SamplingParameters(temperature=temperature, top_k=top_k)
        assert Sampler(asked, NO_PROMPT).choose(row) is None


@pytest.mark.parametrize("extreme", [1e-300, 1e300])
@pytest.mark.parametrize("top_k", [0, 3, 1500])
def test_numbers_that_no_float32_holds_are_the_nearest_one(extreme: float, top_k: int) -> None:
    """A temperature as well as a penalty."""
    row = np.full(2000, -np.inf, np.float32)
    row[[5, 7]] = 1, 2
    asked = SamplingParameters(temperature=extreme, top_k=top_k, repetition_penalty=extreme)
    assert Sampler(asked, np.array([0, 7])).choose(row) in (5, 7)


def test_a_row_without_any_possible_token_gives_none() -> None:
    row = np.full(5, -np.inf, np.float32)
    assert Sampler(SamplingParameters(temperature=1, top_p=0.5), NO_PROMPT).choose(row) is None


def test_samplers_beyond_the_rows_are_left_alone() -> None:
    """A prompt that is not yet read whole has a sampler and no row."""
    asked = SamplingParameters(temperature=1, seed=3)
    sampler, fresh = Sampler(asked, NO_PROMPT), Sampler(asked, NO_PROMPT)
    assert sample(np.empty((0, 4), np.float32), [sampler]) == []
    row = np.zeros(1000, np.float32)
    assert sampler.choose(row) == fresh.choose(row)


def test_a_choice_that_fails_is_that_of_its_row_only() -> None:
    """Here of a prompt with a token that the model does not know, under a penalty."""
    penalty = SamplingParameters(repetition_penalty=2)
    unknown, known = (Sampler(penalty, np.array([token])) for token in (9, 1))
    rows = np.array([[1, 2, 3], [1, 3, 2]], np.float32)
    assert sample(rows, [unknown, known]) == [None, 2]
