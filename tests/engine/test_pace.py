"""The pace follows what calls take: few measurements are enough, and none is made in advance."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.costs import CostMeter, Costs, Rates
from server.engine.pace import LONGEST_CALL, LONGEST_CALL_BESIDE, MIN_TOKENS, Pace
from server.engine.pacer import Pacer
from server.engine.plan import DecodeCall, PrefillCall, SlotPrefix, VerifyCall
from tests.engine.play import Visitor, sequence_of

SMALL = Rates(call=5e-3, token=0.5e-3, past=4e-6, pair=0.2e-6)
"""Of the order of the default model on two cores."""
LARGE = Rates(call=0.4, token=60e-3, past=0.4e-3, pair=5e-6)
FAST = Rates(call=4e-3, token=5e-6, past=1e-8, pair=1e-9)
"""As on a GPU: a call costs much, a token next to nothing."""
rates = st.builds(
    Rates,
    call=st.floats(0, 0.1),
    token=st.floats(1e-6, 0.1),
    past=st.floats(0, 1e-3),
    pair=st.floats(0, 1e-5),
)


@pytest.mark.parametrize("true", [SMALL, LARGE, FAST])
def test_a_few_calls_tell_what_the_next_ones_take(true: Rates) -> None:
    """Within a tenth, on a machine whose times vary by as much; sizes that were not seen too."""
    chance = random.Random(0)
    meter = CostMeter()

    def seconds(tokens: int, past: int) -> float:
        return true.prompt_seconds(tokens, past) * chance.uniform(0.95, 1.05)

    for tokens, past in [(30, 0), (300, 30), (20, 330), (40, 700), *((16, p) for p in range(9))]:
        meter.read(tokens, past, seconds(tokens, past))
    for tokens, past in [(10, 0), (100, 100), (250, 0), (16, 500)]:
        expected = pytest.approx(true.prompt_seconds(tokens, past), rel=0.15)
        assert meter.costs().prompt.prompt_seconds(tokens, past) == expected


def test_decode_calls_are_told_apart_from_prompts() -> None:
    meter = CostMeter()
    for rows, past in [(1, 10), (1, 500), (4, 900), (8, 900), (8, 4000)] * 4:
        meter.decoded(rows, past, SMALL.seconds(rows, past, 0))
        meter.read(rows, past, 1.0)
    expected = pytest.approx(SMALL.seconds(6, 2000, 0), rel=0.1)
    assert meter.costs().decode_seconds(6, 2000) == expected


def test_the_next_step_takes_what_the_last_ones_took_however_these_grew() -> None:
    """Noise may look so. Here an empty step would take less than nothing."""
    meter = CostMeter()
    for past in range(1000, 1200, 4):
        meter.decoded(4, past, 9e-3 + 25e-6 * (past - 1000))
    assert meter.costs().decode_seconds(4, 1200) == pytest.approx(14e-3, rel=0.2)


def test_one_call_that_was_held_up_changes_little() -> None:
    meter = CostMeter()
    for past in range(0, 600, 20):
        meter.read(20, past, SMALL.prompt_seconds(20, past))
    before = meter.costs().prompt.prompt_seconds(20, 600)
    meter.read(20, 600, 5.0)
    assert meter.costs().prompt.prompt_seconds(20, 600) == pytest.approx(before, rel=0.1)


def test_prompts_beside_others_have_costs_of_their_own() -> None:
    slow = replace(SMALL, call=8e-3, token=0.9e-3)
    meter = CostMeter()
    for start in range(0, 400, 40):
        meter.read(40, start, SMALL.prompt_seconds(40, start))
        meter.read_beside(40, start, slow.prompt_seconds(40, start))
    costs = meter.costs()
    for found, true in ((costs.prompt, SMALL), (costs.prompt_beside, slow)):
        expected = pytest.approx(true.prompt_seconds(60, 200), rel=0.1)
        assert found.prompt_seconds(60, 200) == expected


def test_the_first_prompt_beside_others_is_thought_to_take_twice_as_long_as_alone() -> None:
    meter = CostMeter()
    for start in range(0, 400, 40):
        meter.read(40, start, LARGE.prompt_seconds(40, start))
    expected = pytest.approx(2 * LARGE.prompt_seconds(60, 200), rel=0.1)
    assert meter.costs().prompt_beside.prompt_seconds(60, 200) == expected


def test_the_first_call_of_a_prompt_is_a_short_one() -> None:
    """Nothing was measured yet, and the model may be a large one."""
    pace = Pacer(stretch=2).pace
    assert 16 <= pace.costs.prompt.tokens_in(pace.allowance(0, 1, 0), 0, 1000) <= 64


@given(of=rates, most=st.integers(1, 300), past=st.integers(0, 9000))
def test_as_many_tokens_as_there_is_time_for(of: Rates, most: int, past: int) -> None:
    assert of.tokens_in(of.prompt_seconds(100, past), past, most) == min(most, 100)


@given(of=rates, past=st.integers(0, 9000))
def test_a_call_is_a_third_longer_than_an_empty_one(of: Rates, past: int) -> None:
    """Without what the tokens of the call attend to among themselves."""
    least = of.min_tokens(past)
    empty = of.prompt_seconds(0, past)
    a_token = of.token + of.pair * past
    assert least * a_token >= 0.333 * empty
    assert (least - 1) * a_token <= 0.334 * empty


def test_what_prompts_may_take_beside_streams_follows_the_stretch() -> None:
    costs = Costs(decode=SMALL, prompt=SMALL, prompt_beside=SMALL)
    for stretch, share in ((1.5, 0.5), (3.0, 2.0)):
        allowed = Pace(costs, stretch).allowance(rows=4, coming=0, past=800)
        assert allowed == pytest.approx(share * costs.decode_seconds(4, 800))
    assert Pace(costs, 3).allowance(rows=0, coming=1, past=0) == LONGEST_CALL
    assert Pace(costs, 1000).allowance(rows=4, coming=0, past=800) == LONGEST_CALL


def test_what_is_still_to_be_read_counts_as_if_it_ran() -> None:
    costs = Costs(decode=SMALL, prompt=SMALL, prompt_beside=SMALL)
    allowed = Pace(costs, 2).allowance(rows=1, coming=7, past=100)
    step = 2 * costs.decode_seconds(8, 100)
    assert allowed + costs.decode_seconds(1, 100) == pytest.approx(step)


def test_prompts_are_read_beside_steps_unless_these_may_be_very_long() -> None:
    costs = Costs(decode=SMALL, prompt=SMALL, prompt_beside=SMALL)
    reads_beside = [Pace(costs, stretch).reads_beside for stretch in (1.1, 1.8, 3, 3.1, 8)]
    assert reads_beside == [True, True, True, False, False]


@given(of=rates, remaining=st.integers(1, 9000), past=st.integers(0, 9000))
def test_pieces_that_are_read_beside_others_are_of_one_size(
    of: Rates, remaining: int, past: int
) -> None:
    pace = Pace(Costs(SMALL, SMALL, of), 2)
    tokens = pace.tokens_beside(past, remaining)
    longest = max(of.tokens_in(LONGEST_CALL_BESIDE, past, remaining), MIN_TOKENS)
    assert MIN_TOKENS <= tokens <= longest
    assert -(-remaining // tokens) == -(-remaining // longest)


@given(of=rates, prompt=st.integers(1, 9000), data=st.data())
def test_no_step_of_a_prompt_needs_to_be_much_shorter_than_its_last_one(
    of: Rates, prompt: int, data: st.DataObject
) -> None:
    """The least that is read takes a third longer than nothing; or three quarters of what the least
    at the end will take, but no longer than any call may."""
    past = data.draw(st.integers(0, prompt - 1))
    pace = Pace(Costs(decode=SMALL, prompt=of, prompt_beside=SMALL), 2)
    least = pace.min_tokens(past, prompt)
    assert least >= max(of.min_tokens(past), MIN_TOKENS)
    last = of.prompt_seconds(max(of.min_tokens(prompt), MIN_TOKENS), prompt)
    longest = min(0.75 * last, LONGEST_CALL)
    if least > max(of.min_tokens(past), MIN_TOKENS):
        assert of.prompt_seconds(least, past) <= longest
    if least < prompt - past:
        assert of.prompt_seconds(least + 1, past) > longest


class Counted(CostMeter):
    """Counts what is taken in."""

    def __init__(self) -> None:
        super().__init__()
        self.decodes = self.reads = self.reads_beside = 0

    def decoded(self, rows: int, past: int, seconds: float) -> None:
        self.decodes += 1
        super().decoded(rows, past, seconds)

    def read(self, tokens: int, past: int, seconds: float) -> None:
        self.reads += 1
        super().read(tokens, past, seconds)

    def read_beside(self, tokens: int, past: int, seconds: float) -> None:
        self.reads_beside += 1
        super().read_beside(tokens, past, seconds)


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def took(counted: Counted) -> Callable[..., None]:
    pacer = Pacer(2, meter=counted)
    sequence = sequence_of(Visitor(0, (1, 2, 3), 9))
    return lambda call, **beside: pacer.took(
        call, [sequence for _ in call.keys], seconds=0.01, **beside
    )


def test_decode_calls_are_rarely_taken_in(counted: Counted, took: Callable[..., None]) -> None:
    """Also beside drafts."""
    for _ in range(64):
        took(DecodeCall((0,)))
        took(VerifyCall(1, 1, (7,)))
    assert counted.decodes == 4


def test_beside_a_prompt_every_step_is_taken_in(
    counted: Counted, took: Callable[..., None]
) -> None:
    for start in range(0, 160, 16):
        took(PrefillCall(1, 1, start, start + 16, last=False))
        took(DecodeCall((0,)))
    assert (counted.reads, counted.decodes) == (10, 10)


def test_decoding_beside_a_prompt_tells_nothing_and_the_prompt_what_others_beside_it_take(
    counted: Counted, took: Callable[..., None]
) -> None:
    for start in range(0, 160, 16):
        took(DecodeCall((0,)), beside=True)
        took(PrefillCall(1, 1, start, start + 16, last=False), beside=True)
    assert (counted.reads_beside, counted.reads, counted.decodes) == (10, 0, 0)


def test_a_call_that_also_copied_a_prefix_tells_nothing(
    counted: Counted, took: Callable[..., None]
) -> None:
    """Beside others, the prefix is copied before it."""
    call = PrefillCall(1, 1, 8, 16, last=False, prefix=SlotPrefix(0, 8))
    took(call)
    assert counted.reads == 0
    took(call, beside=True)
    assert counted.reads_beside == 1
