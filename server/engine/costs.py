"""What calls into the model cost, learnt from the calls themselves. Knows arithmetic, no model.

A call takes close to a sum: reading the weights, reading the keys and values of what came before,
work for each token, and attention of each token to those before it. Both kinds of calls are fitted
to such a sum by least squares, old measurements fading; in whatever directions nothing was
measured, a guess holds.
"""

from dataclasses import astuple, dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

_FADING = 0.97
"""Weight that a measurement keeps at each later one: some thirty count."""
_GUESS_WEIGHT = 1e-3
"""What the guess counts, in measurements: enough to decide what nothing measured."""
_LEAST_FACTOR = 1e-3
"""No rate falls below this part of its guess, both to scale: noise would make some negative."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds of a call: each field times its count, summed up."""

    call: float
    token: float
    past: float
    """A token that came before."""
    pair: float
    """A token of a prompt call with one that it attends to."""

    def seconds(self, tokens: int, past: int, pairs: float) -> float:
        return self.call + self.token * tokens + self.past * past + self.pair * pairs


@dataclass(frozen=True, slots=True)
class Costs:
    """What the next calls will take."""

    decode: Rates
    prompt: Rates

    def decode_seconds(self, rows: int, past: int) -> float:
        """One token for each of `rows` sequences that hold `past` tokens together."""
        return self.decode.seconds(rows, past, 0)

    def prompt_seconds(self, tokens: int, past: int) -> float:
        """`tokens` of a prompt after `past` others."""
        return self.prompt.seconds(tokens, past, _pairs(tokens, past))

    def least_tokens(self, past: int) -> int:
        """Tokens that make a prompt call a third longer than it would be without any."""
        rates = self.prompt
        return ceil((rates.call + rates.past * past) / (rates.token + rates.pair * past) / 3)


FIRST_GUESS = Rates(call=50e-3, token=5e-3, past=20e-6, pair=2e-6)
"""Of the order of seven billion parameters on eight cores, so that the first call of a smaller
model is a short one. A single measurement scales all of it."""


class CostMeter:
    """Takes measurements and gives the costs that follow from them."""

    def __init__(self) -> None:
        self._decode = _Fit(FIRST_GUESS)
        self._prompt = _Fit(FIRST_GUESS)

    def decoded(self, rows: int, past: int, seconds: float) -> None:
        """A decode call; arguments as in `Costs.decode_seconds`."""
        self._decode.take(seconds, rows, past, 0)

    def read(self, tokens: int, past: int, seconds: float) -> None:
        """A prompt call; arguments as in `Costs.prompt_seconds`."""
        self._prompt.take(seconds, tokens, past, _pairs(tokens, past))

    def costs(self) -> Costs:
        return Costs(self._decode.rates(), self._prompt.rates())


class _Fit:
    """Rates in units of the guess, so that one ridge holds for all of them.

    What is fitted is the relative error: a small call counts as much as a large one, and one that
    the machine held up cannot count for more than a few.
    """

    def __init__(self, guess: Rates) -> None:
        self._guess = np.array(astuple(guess))
        self._products: _Floats = np.zeros((4, 4))
        self._sums: _Floats = np.zeros(4)

    def take(self, seconds: float, tokens: int, past: int, pairs: float) -> None:
        row = self._guess * (1, tokens, past, pairs) / seconds
        self._products = _FADING * self._products + np.outer(row, row)
        self._sums = _FADING * self._sums + row

    def rates(self) -> Rates:
        weight = _GUESS_WEIGHT
        # One call tells the scale of all rates; what then holds of the guess are its proportions.
        scale = (self._sums.sum() + weight) / (self._products.sum() + weight)
        factors = _solve_above(
            _LEAST_FACTOR * scale, self._products + weight * np.eye(4), self._sums + weight * scale
        )
        return Rates(*(self._guess * factors).tolist())


def _solve_above(least: float, products: _Floats, sums: _Floats) -> _Floats:
    """Factors x with products @ x = sums, but none below `least`.

    Those that would be are put there, and the others solved for again: to cut them off only would
    leave the sum too large by what they took off it, a third of a step where it was seen."""
    factors = np.full(len(sums), least)
    free = np.ones(len(sums), bool)
    while free.any():
        taken = sums - products[:, ~free] @ factors[~free]
        factors[free] = np.linalg.solve(products[np.ix_(free, free)], taken[free])
        if (factors >= least).all():
            break
        free &= factors > least
        factors[~free] = least
    return factors


def _pairs(tokens: int, past: int) -> float:
    return tokens * (past + tokens / 2)
