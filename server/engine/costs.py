"""What calls into the model cost, learnt from the calls themselves. Knows arithmetic, no model.

A call takes close to a sum: reading the weights, work for each token, and attention of each token
over those before it. Both kinds of calls are fitted to such a sum by weighted least squares, old
measurements fading; where nothing was measured, a guess holds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FADING = 0.97
"""Weight that a measurement keeps at each later one: some thirty count."""
_GUESS_WEIGHT = 1e-3
"""What the guess counts, in measurements: enough to decide what nothing measured."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds of a call: each field times its count, summed up."""

    call: float
    token: float
    pair: float
    """A token of the call with one that it attends to."""

    def seconds(self, tokens: int, pairs: float) -> float:
        return self.call + self.token * tokens + self.pair * pairs


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What the next calls will take."""

    decode: Rates
    prompt: Rates

    def decode_seconds(self, rows: int, past: int) -> float:
        """One token for each of `rows` sequences that hold `past` tokens together."""
        return self.decode.seconds(rows, past)

    def prompt_seconds(self, tokens: int, past: int) -> float:
        """`tokens` of a prompt after `past` others."""
        return self.prompt.seconds(tokens, tokens * (past + tokens / 2))


FIRST_GUESS = CostEstimate(
    decode=Rates(call=10e-3, token=2e-3, pair=2e-6), prompt=Rates(call=10e-3, token=2e-3, pair=1e-6)
)
"""Of the order of a billion parameters on two cores; the first calls replace it."""


class CostMeter:
    """Takes measurements and gives the estimate that holds."""

    def __init__(self) -> None:
        self._decode = _Fit(FIRST_GUESS.decode)
        self._prompt = _Fit(FIRST_GUESS.prompt)

    def decoded(self, rows: int, past: int, seconds: float) -> None:
        """Takes in the time of a decode call; arguments as in `CostEstimate.decode_seconds`."""
        self._decode.take(rows, past, seconds)

    def read(self, tokens: int, past: int, seconds: float) -> None:
        """Takes in the time of a prompt call; arguments as in `CostEstimate.prompt_seconds`."""
        self._prompt.take(tokens, tokens * (past + tokens / 2), seconds)

    def estimate(self) -> CostEstimate:
        return CostEstimate(self._decode.rates(), self._prompt.rates())


class _Fit:
    """Rates in units of the guess, so that one ridge holds for all of them."""

    def __init__(self, guess: Rates) -> None:
        self._guess = np.array([guess.call, guess.token, guess.pair])
        self._products: NDArray[np.float64] = _GUESS_WEIGHT * np.eye(3)
        self._sums: NDArray[np.float64] = np.full(3, _GUESS_WEIGHT)

    def take(self, tokens: int, pairs: float, seconds: float) -> None:
        """The relative error is what is fitted: a small call counts as much as a large one."""
        row = self._guess * (1, tokens, pairs) / seconds
        guess = (1 - _FADING) * _GUESS_WEIGHT
        self._products = _FADING * self._products + np.outer(row, row) + guess * np.eye(3)
        self._sums = _FADING * self._sums + row + guess

    def rates(self) -> Rates:
        factors = np.linalg.solve(self._products, self._sums)
        return Rates(*(self._guess * np.maximum(factors, 0)).tolist())
