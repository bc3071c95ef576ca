"""The pace follows what calls take: few measurements are enough, and none is made in advance."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.costs import CostMeter, Costs, Rates
from server.engine.pace import LONGEST_CALL, MIN_TOKENS, Pace
from server.engine.pacer import Pacer
from server.engine.plan import DecodeCall, MixedCall, PrefillCall, SlotPrefix
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


def test_what_a_prompt_adds_to_a_decode_call_is_learnt() -> None:
    """From a first prompt, which is read alone, and from calls that do both, whether any has only
    decoded yet or not."""
    added = replace(SMALL, call=1e-3)

    def measure(rows: int, tokens: int, past: int) -> None:
        decode = SMALL.seconds(rows, 100 * rows, 0)
        meter.mixed(rows, 100 * rows, tokens, past, decode + added.prompt_seconds(tokens, past))

    meter = CostMeter()
    meter.read(30, 0, SMALL.prompt_seconds(30, 0))
    meter.read(34, 30, SMALL.prompt_seconds(34, 30))
    measure(1, 16, 0)
    measure(1, 16, 16)
    costs = meter.costs()
    both = costs.decode_seconds(1, 100) + costs.added.prompt_seconds(20, 32)
    expected = SMALL.seconds(1, 100, 0) + added.prompt_seconds(20, 32)
    assert both == pytest.approx(expected, rel=0.15)
    for rows in range(1, 9):
        meter.decoded(rows, 100 * rows, SMALL.seconds(rows, 100 * rows, 0))
        measure(rows, 10 * rows, 50 * rows)
    for tokens, past in ((4, 0), (40, 300)):
        expected = added.prompt_seconds(tokens, past)
        learnt = meter.costs().added.prompt_seconds(tokens, past)
        assert learnt == pytest.approx(expected, rel=0.15)


def test_a_long_prompt_changes_nothing_of_what_decoding_is_thought_to_take() -> None:
    """Though all of its calls do both, and the past of both grows."""
    meter = CostMeter()
    for rows in range(1, 5):
        meter.decoded(rows, 100 * rows, SMALL.seconds(rows, 100 * rows, 0))
    before = meter.costs().decode_seconds(4, 500)
    for step in range(100):
        seconds = SMALL.seconds(4, 400 + 4 * step, 0) + SMALL.prompt_seconds(16, 16 * step)
        meter.mixed(4, 400 + 4 * step, 16, 16 * step, seconds)
    assert meter.costs().decode_seconds(4, 500) == before


def test_prompts_of_a_burst_do_not_seem_to_take_what_the_rows_beside_them_do() -> None:
    """Of which as many never decoded alone: each row costs more than a first guess has it."""
    decode, added = replace(SMALL, token=1.5e-3), replace(SMALL, call=1e-3)
    meter = CostMeter()
    meter.read(128, 0, SMALL.prompt_seconds(128, 0))
    for past in range(128, 200, 16):
        meter.decoded(1, past, decode.seconds(1, past, 0))
    for rows in range(1, 8):
        for start in range(0, 128, 16):
            seconds = decode.seconds(rows, 140 * rows, 0) + added.prompt_seconds(16, start)
            meter.mixed(rows, 140 * rows, 16, start, seconds)
    learnt = meter.costs().added.prompt_seconds(16, 64)
    assert learnt == pytest.approx(added.prompt_seconds(16, 64), rel=0.2)


def test_a_piece_that_seems_to_take_no_time_makes_no_later_one_long() -> None:
    """As where the machine was slow when what decodes was measured."""
    meter = CostMeter()
    meter.read(64, 0, SMALL.prompt_seconds(64, 0))
    meter.decoded(4, 400, 0.02)
    for start in range(0, 40, 4):
        meter.mixed(4, 400, 4, start, 0.012)
    assert meter.costs().added.tokens_in(0.01, 40, 1000) < 100


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
    costs = Costs(decode=SMALL, prompt=SMALL, added=SMALL)
    for stretch, share in ((1.5, 0.5), (3.0, 2.0)):
        allowed = Pace(costs, stretch).allowance(rows=4, coming=0, past=800)
        assert allowed == pytest.approx(share * costs.decode_seconds(4, 800))
    assert Pace(costs, 3).allowance(rows=0, coming=1, past=0) == LONGEST_CALL
    assert Pace(costs, 1000).allowance(rows=4, coming=0, past=800) == LONGEST_CALL


def test_what_is_still_to_be_read_counts_as_if_it_ran() -> None:
    costs = Costs(decode=SMALL, prompt=SMALL, added=SMALL)
    allowed = Pace(costs, 2).allowance(rows=1, coming=7, past=100)
    step = 2 * costs.decode_seconds(8, 100)
    assert allowed + costs.decode_seconds(1, 100) == pytest.approx(step)


@given(of=rates, prompt=st.integers(1, 9000), data=st.data())
def test_no_step_of_a_prompt_needs_to_be_much_shorter_than_its_last_one(
    of: Rates, prompt: int, data: st.DataObject
) -> None:
    """The least that is read takes a third longer than nothing; or three quarters of what the least
    at the end will take, but no longer than any call may."""
    past = data.draw(st.integers(0, prompt - 1))
    pace = Pace(Costs(SMALL, SMALL, SMALL), 2)
    least = pace.min_tokens(of, past, prompt)
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
        self.decodes = self.reads = self.mixes = 0

    def decoded(self, rows: int, past: int, seconds: float) -> None:
        self.decodes += 1
        super().decoded(rows, past, seconds)

    def read(self, tokens: int, past: int, seconds: float) -> None:
        self.reads += 1
        super().read(tokens, past, seconds)

    def mixed(self, rows: int, rows_past: int, tokens: int, past: int, seconds: float) -> None:
        self.mixes += 1
        super().mixed(rows, rows_past, tokens, past, seconds)


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def took(counted: Counted) -> Callable[..., None]:
    pacer = Pacer(2, meter=counted)
    sequence = sequence_of(Visitor(0, (1, 2, 3), 9))
    return lambda call: pacer.took(call, [sequence for _ in call.keys], seconds=0.01)


def test_plain_decode_steps_are_rarely_taken_in(
    counted: Counted, took: Callable[..., None]
) -> None:
    for _ in range(64):
        took(DecodeCall((0,)))
    assert counted.decodes == 4


def test_beside_a_prompt_every_step_is_taken_in(
    counted: Counted, took: Callable[..., None]
) -> None:
    for start in range(0, 160, 16):
        took(PrefillCall(1, 1, start, start + 16, last=False))
        took(DecodeCall((0,)))
    assert (counted.reads, counted.decodes) == (10, 10)


def test_each_call_that_decodes_and_reads_is_taken_in(
    counted: Counted, took: Callable[..., None]
) -> None:
    for start in range(0, 160, 16):
        took(MixedCall(DecodeCall((0,)), PrefillCall(1, 1, start, start + 16, last=False)))
    assert (counted.mixes, counted.reads, counted.decodes) == (10, 0, 0)


def test_a_call_that_also_copied_a_prefix_tells_nothing(
    counted: Counted, took: Callable[..., None]
) -> None:
    took(PrefillCall(1, 1, 8, 16, last=False, prefix=SlotPrefix(0, 8)))
    assert counted.reads == 0
