"""The estimate of a call's time follows what was measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.costs import FIRST_GUESS, CostEstimate, CostMeter, Rates

GUESS = FIRST_GUESS.prompt
CALLS = ((32, 100), (512, 0), (2, 700), (100, 400))
"""Tokens of a prompt call, and those before them."""


def machine(call: float, token: float, pair: float) -> CostEstimate:
    """A machine whose rates are so many times those of the first guess."""
    rates = Rates(GUESS.call * call, GUESS.token * token, GUESS.pair * pair)
    return CostEstimate(decode=rates, prompt=rates)


def measure(meter: CostMeter, truth: CostEstimate, calls: int) -> None:
    """Calls of many sizes, without noise."""
    random = np.random.default_rng(0)
    for tokens, past in random.integers(1, 512, (calls, 2)).tolist():
        meter.read(tokens, past, truth.prompt_seconds(tokens, past))
        meter.decoded(tokens, past, truth.decode_seconds(tokens, past))


def assert_close(meter: CostMeter, truth: CostEstimate, rel: float) -> None:
    for tokens, past in CALLS:
        seconds = truth.prompt_seconds(tokens, past)
        assert meter.estimate().prompt_seconds(tokens, past) == pytest.approx(seconds, rel=rel)
        seconds = truth.decode_seconds(tokens, past)
        assert meter.estimate().decode_seconds(tokens, past) == pytest.approx(seconds, rel=rel)


def test_until_something_is_measured_the_guess_holds() -> None:
    assert CostMeter().estimate() == FIRST_GUESS


factors = st.sampled_from([0.05, 0.3, 1.0, 3.0])


@given(truth=st.builds(machine, factors, factors, factors))
def test_what_is_measured_is_found(truth: CostEstimate) -> None:
    meter = CostMeter()
    measure(meter, truth, calls=60)
    assert_close(meter, truth, rel=0.15)


def test_a_machine_that_becomes_slower_is_noticed() -> None:
    meter = CostMeter()
    measure(meter, machine(1, 1, 1), calls=200)
    measure(meter, machine(3, 3, 3), calls=200)
    assert_close(meter, machine(3, 3, 3), rel=0.1)


def test_one_measurement_tells_much_of_its_like() -> None:
    meter = CostMeter()
    assert meter.estimate().prompt_seconds(512, 0) > 1
    meter.read(512, 0, 0.1)
    assert meter.estimate().prompt_seconds(512, 0) == pytest.approx(0.1, rel=0.3)


def test_no_term_makes_a_call_faster() -> None:
    meter = CostMeter()
    for tokens in range(1, 40):
        meter.read(tokens, 0, seconds=1 / tokens)
    rates = meter.estimate().prompt
    assert min(rates.call, rates.token, rates.pair) >= 0
