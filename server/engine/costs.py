"""What calls into the model cost, learnt from the calls themselves. Knows arithmetic, no model.

A call takes close to a sum: reading the weights, reading the keys and values of what came before,
work for each token, and attention of each token to those before it. Decode calls and prompt calls
are each fitted to such a sum by least squares, in which old measurements fade; a guess holds in all
directions in which nothing was measured. Prompts that are read beside other calls, on half of the
cores, have a sum of their own.
"""

from bisect import bisect_right
from dataclasses import astuple, dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

_FADING = 0.97
"""Share of its weight that a measurement keeps at each later one: about thirty count."""
_GUESS_WEIGHT = 1e-3
"""Weight of the guess, in measurements: enough to decide what nothing measured."""
_LEAST_FACTOR = 1e-3
"""No rate falls below this part of its scaled guess: noise would make some negative."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds of a call: the sum of each field times its count."""

    call: float
    token: float
    past: float
    """For each token in the slots before the call."""
    pair: float
    """For each pair of a prompt call's token and a token that it attends to."""

    def seconds(self, tokens: int, past: int, pairs: float) -> float:
        return self.call + self.token * tokens + self.past * past + self.pair * pairs

    def prompt_seconds(self, tokens: int, past: int) -> float:
        """Seconds to read `tokens` tokens of a prompt after `past` others."""
        return self.seconds(tokens, past, _pairs(tokens, past))

    def tokens_in(self, seconds: float, past: int, limit: int) -> int:
        """The most tokens, up to `limit`, that can be read in `seconds` after `past` others."""
        return bisect_right(
            range(1, limit + 1), seconds, key=lambda tokens: self.prompt_seconds(tokens, past)
        )

    def min_tokens(self, past: int) -> int:
        """Prompt tokens that take a third of what the call would take without any."""
        return ceil((self.call + self.past * past) / (self.token + self.pair * past) / 3)


@dataclass(frozen=True, slots=True)
class Costs:
    """Estimates for the next calls."""

    decode: Rates
    prompt: Rates
    prompt_beside: Rates
    """A prompt that is read beside other calls."""

    def decode_seconds(self, rows: int, past: int) -> float:
        """Seconds for one token of each of `rows` sequences, which hold `past` tokens in total."""
        return self.decode.seconds(rows, past, 0)


FIRST_GUESS = Rates(call=50e-3, token=5e-3, past=20e-6, pair=2e-6)
"""About what seven billion parameters take on eight cores, so that the first call of a smaller
model is a short one. A single measurement scales all of it."""


class CostMeter:
    """Takes measurements and gives the costs that follow from them."""

    def __init__(self) -> None:
        self._decode = _Fit(FIRST_GUESS.call, FIRST_GUESS.token, FIRST_GUESS.past)
        self._prompt = _Fit(*astuple(FIRST_GUESS))
        self._prompt_beside = _Fit(*astuple(FIRST_GUESS))
        self._read_beside = False
        """Whether any call was beside others."""

    def decoded(self, rows: int, past: int, seconds: float) -> None:
        """A decode call; arguments as in `Costs.decode_seconds`."""
        self._decode.take(seconds, 1, rows, past)

    def read(self, tokens: int, past: int, seconds: float) -> None:
        """A prompt call; arguments as in `Rates.prompt_seconds`."""
        counts = 1, tokens, past, _pairs(tokens, past)
        self._prompt.take(seconds, *counts)
        if not self._read_beside:
            self._prompt_beside.take(2 * seconds, *counts)  # with half of the cores

    def read_beside(self, tokens: int, past: int, seconds: float) -> None:
        """The same for a call beside others."""
        self._read_beside = True
        self._prompt_beside.take(seconds, 1, tokens, past, _pairs(tokens, past))

    def costs(self) -> Costs:
        step, row, past = self._decode.rates()
        return Costs(
            decode=Rates(step, row, past, pair=0),
            prompt=Rates(*self._prompt.rates()),
            prompt_beside=Rates(*self._prompt_beside.rates()),
        )


class _Fit:
    """Fits rates in units of their guesses, so that one ridge suits all of them.

    Minimises the error relative to the whole call: a small call counts as much as a large one, and
    one that the machine delayed cannot count for more than a few.
    """

    def __init__(self, *guess: float) -> None:
        self._guess = np.array(guess)
        self._products: _Floats = np.zeros((len(guess), len(guess)))
        self._sums: _Floats = np.zeros(len(guess))

    def take(self, seconds: float, *counts: float) -> None:
        """Takes the seconds of a call, and how often each rate counts in them."""
        row = self._guess * counts / seconds
        self._products = _FADING * self._products + np.outer(row, row)
        self._sums = _FADING * self._sums + row

    def rates(self) -> list[float]:
        weight = _GUESS_WEIGHT
        # One call sets the scale of all rates; of the guess, only the proportions then hold.
        scale = (self._sums.sum() + weight) / (self._products.sum() + weight)
        factors = _solve_above(
            _LEAST_FACTOR * scale,
            self._products + weight * np.eye(len(self._guess)),
            self._sums + weight * scale,
        )
        rates: list[float] = (self._guess * factors).tolist()
        return rates


def _solve_above(least: float, products: _Floats, sums: _Floats) -> _Floats:
    """Factors x with products @ x = sums, but none below `least`.

    Those that would be below are set to it, and the others are solved for again. Clipping alone
    would leave the sum too large by what they subtracted, a third of a step in one case."""
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
