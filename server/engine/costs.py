"""What calls into the model cost, learnt from the calls themselves. Knows arithmetic, no model.

A call takes close to a sum: reading the weights, reading the keys and values of what came before,
work for each token, and attention of each token to those before it. What decodes and what reads
prompts are each fitted to such a sum by least squares, old measurements fading; in whatever
directions nothing was measured, a guess holds. In a call that does both, a prompt takes what it
takes alone, but for reading the weights.
"""

from bisect import bisect_right
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
    """For each token that came before."""
    pair: float
    """For each token of a prompt call with each one that it attends to."""

    def seconds(self, tokens: int, past: int, pairs: float) -> float:
        return self.call + self.token * tokens + self.past * past + self.pair * pairs

    def prompt_seconds(self, tokens: int, past: int) -> float:
        """`tokens` of a prompt after `past` others."""
        return self.seconds(tokens, past, _pairs(tokens, past))

    def tokens_in(self, seconds: float, past: int, most: int) -> int:
        """How many of `most` tokens of a prompt, after `past` others, take no longer."""
        return bisect_right(
            range(1, most + 1), seconds, key=lambda tokens: self.prompt_seconds(tokens, past)
        )

    def least_tokens(self, past: int) -> int:
        """Tokens of a prompt that take a third of what is taken without any."""
        return ceil((self.call + self.past * past) / (self.token + self.pair * past) / 3)


@dataclass(frozen=True, slots=True)
class Costs:
    """What the next calls will take."""

    decode: Rates
    prompt: Rates
    added: Rates
    """What a prompt adds to a decode call, in a call that does both."""

    def decode_seconds(self, rows: int, past: int) -> float:
        """One token for each of `rows` sequences that hold `past` tokens together."""
        return self.decode.seconds(rows, past, 0)


FIRST_GUESS = Rates(call=50e-3, token=5e-3, past=20e-6, pair=2e-6)
"""Of the order of seven billion parameters on eight cores, so that the first call of a smaller
model is a short one. A single measurement scales all of it."""
_SHARED = 0.9
"""Of what a prompt call takes without tokens, a first guess at what is reading the weights."""
_LEAST_PROMPT = 0.05
"""Of a call that does both, what the prompt takes at least: how long the rest takes is estimated,
and noise would leave nothing of a small piece."""


class CostMeter:
    """Takes measurements and gives the costs that follow from them."""

    def __init__(self) -> None:
        self._decode = _Fit(FIRST_GUESS.call, FIRST_GUESS.token, FIRST_GUESS.past)
        call, *others = astuple(FIRST_GUESS)
        self._prompt = _Fit(_SHARED * call, (1 - _SHARED) * call, *others)
        """With a first rate for what a decode call has done already."""
        self._most_rows = 0
        """Of a call that only decoded."""

    def decoded(self, rows: int, past: int, seconds: float) -> None:
        """A decode call; arguments as in `Costs.decode_seconds`."""
        self._most_rows = max(self._most_rows, rows)
        self._decode.take(seconds, seconds, 1, rows, past)

    def read(self, tokens: int, past: int, seconds: float) -> None:
        """A prompt call; arguments as in `Rates.prompt_seconds`."""
        self._prompt.take(seconds, seconds, 1, 1, tokens, past, _pairs(tokens, past))

    def mixed(self, rows: int, rows_past: int, tokens: int, past: int, seconds: float) -> None:
        """Both in one call. They are not fitted together: the pasts of rows and prompt grow at the
        same time, so that decoding would be charged with what the prompt's costs. So one part is
        taken as known: the decoding, or, where more rows decode than ever did alone, the prompt,
        as otherwise a burst of prompts would be charged with the new rows and cut ever smaller."""
        costs = self.costs()
        if rows <= self._most_rows:
            read = max(seconds - costs.decode_seconds(rows, rows_past), _LEAST_PROMPT * seconds)
            self._prompt.take(read, seconds, 0, 1, tokens, past, _pairs(tokens, past))
        else:
            decoded = seconds - min(costs.added.prompt_seconds(tokens, past), seconds / 2)
            self._decode.take(decoded, seconds, 1, rows, rows_past)

    def costs(self) -> Costs:
        step, row, past = self._decode.rates()
        weights, call, *others = self._prompt.rates()
        return Costs(
            decode=Rates(step, row, past, pair=0),
            prompt=Rates(weights + call, *others),
            added=Rates(call, *others),
        )


class _Fit:
    """Rates in units of their guesses, so that one ridge holds for all of them.

    What is fitted is the error relative to the whole call: a small call counts as much as a large
    one, and one that the machine held up cannot count for more than a few.
    """

    def __init__(self, *guess: float) -> None:
        self._guess = np.array(guess)
        self._products: _Floats = np.zeros((len(guess), len(guess)))
        self._sums: _Floats = np.zeros(len(guess))

    def take(self, seconds: float, whole: float, *counts: float) -> None:
        """So many `seconds` of a call that took `whole`, and how often each rate counts in them."""
        row = self._guess * counts / whole
        self._products = _FADING * self._products + np.outer(row, row)
        self._sums = _FADING * self._sums + row * (seconds / whole)

    def rates(self) -> list[float]:
        weight = _GUESS_WEIGHT
        # One call tells the scale of all rates; what then holds of the guess are its proportions.
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
