"""Draws a token from a row of logits. Knows arrays and parameters; does not know a sampler's state.

Filters see probabilities at temperature 1; equal logits rank by id, the lower one first.

A row is some 50,000 logits and a step has a row for each stream, so that a full sort or a pass in
Python would take longer than the model: whole rows are only ever read by single vector operations.
The few that can still be drawn are Python numbers: after a call into the model the caches are cold,
and each single NumPy operation takes longer than a loop over them.
"""

import functools
import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from server.config import SamplingParameters

Row = NDArray[np.float32]

_COLUMNS = 8
"""Columns into which `largest` splits a row, for each value that it looks for."""
_LEAST_COLUMNS = 512
_PARTS = 8
"""Parts of each column that have a maximum of their own."""
_BLOCK = 256
"""Neighbouring tokens whose probabilities `draw_from_all` adds up first."""
_HARDEST = 1e30
"""Bound of a penalty: it leaves nothing of a logit, and beyond it products would be infinite."""
_LEAST, _MOST = (float(each) for each in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))
_FEW = 1024
"""The largest top-k for which all tokens that it leaves are ranked."""
_GUESS = 64
"""How many of the largest logits are searched for a filter's cutoff if top-k leaves more."""


def draw(row: Row, parameters: SamplingParameters, chance: float) -> int | None:
    """Draws a token by inverse transform sampling at `chance`, in [0, 1), for a temperature above
    0. Tokens are in order of ids, or with filters the largest first. None if the largest logit is
    not finite."""
    top_k = min(parameters.top_k or len(row), len(row))
    if top_k == len(row) and parameters.top_p >= 1 and parameters.min_p == 0:
        finite = math.isfinite(row.max())
        return draw_from_all(row, parameters.temperature, chance) if finite else None
    ids, logits = largest(row, top_k if top_k <= _FEW else _GUESS)
    if not logits:
        return None
    weights = [math.exp(logit - logits[0]) for logit in logits]
    total, beyond = sum(weights), 0.0
    if len(ids) < top_k:
        beyond = weights[-1]
        if parameters.top_p < 1 and beyond > 0:
            if top_k < len(row):
                return _draw_of_many(row, parameters, top_k, chance)
            total = float(np.exp(row - np.float32(logits[0])).sum())
    end = passing(weights, parameters, total, beyond)
    if end is None:
        return _draw_of_many(row, parameters, top_k, chance)
    return ids[draw_of_few(logits[:end], parameters.temperature, chance)]


def passing(
    weights: Sequence[float], parameters: SamplingParameters, total: float, beyond: float
) -> int | None:
    """How many of the largest tokens, in falling order, pass top-p and min-p; None if other tokens
    may pass too. Weights are exp(logit - largest): `total` is the sum for all tokens that top-k
    leaves, and `beyond` is an upper bound for each of the others."""
    end, decided = len(weights), beyond == 0
    if parameters.top_p < 1:
        wanted = parameters.top_p * total
        for count, reached in enumerate(accumulate(weights), 1):
            if reached >= wanted:
                end, decided = count, True
                break
        else:  # rounding may leave the sum short; a token without a share never passes
            end -= weights.count(0.0)
    if parameters.min_p > 0:
        while weights[end - 1] < parameters.min_p:
            end -= 1
        decided = decided or beyond < parameters.min_p
    return end if decided else None


def largest(row: Row, count: int) -> tuple[list[int], list[float]]:
    """Ids and values of the `count` largest logits, largest first, of equal ones the lower id
    first; empty if the largest is not finite.

    The row is split into columns: at least `count` values reach the `count`-th largest of the
    columns' maxima. Each column has parts, of which only those with such a value are read again.
    """
    columns = min(max(_COLUMNS * count, _LEAST_COLUMNS), len(row))
    parts = columns * min(_PARTS, len(row) // columns)
    rest = len(row) % parts
    maxima = np.maximum.reduce(row[: len(row) - rest].reshape(-1, parts))
    if rest:
        np.maximum(maxima[:rest], row[-rest:], out=maxima[:rest])
    ordered = np.maximum.reduce(maxima.reshape(-1, columns))
    ordered.sort()
    if not math.isfinite(ordered[-1]):  # a NaN counts as the largest
        return [], []
    bound = ordered[-count]
    (near,) = (maxima >= bound).nonzero()
    ids = (_starts(len(row), parts) + near).ravel()
    if rest:
        ids = ids[ids < len(row)]
    values = row[ids]
    (hits,) = (values >= bound).nonzero()
    values = values[hits]
    ranked = (-values).argsort(kind="stable")[:count]
    return ids[hits[ranked]].tolist(), values[ranked].tolist()


@functools.lru_cache
def _starts(length: int, step: int) -> NDArray[np.int64]:
    """0, `step`, 2 `step` and so on below `length`, as a column [n, 1]."""
    return np.arange(0, length, step)[:, None]


def draw_of_few(logits: Sequence[float], temperature: float, chance: float) -> int:
    """Draws the index of one of `logits`, of which the first is the largest."""
    divisor, peak = float(usable(temperature)), logits[0]
    bounds = list(accumulate([math.exp((logit - peak) / divisor) for logit in logits]))
    return bisect_right(bounds, min(chance * bounds[-1], math.nextafter(bounds[-1], 0)))


def _draw_of_many(row: Row, parameters: SamplingParameters, top_k: int, chance: float) -> int:
    """`draw`, sorting only tokens that may pass: one whose weight is below an even share of what
    top-p leaves out is itself left out."""
    values = row if top_k == len(row) else np.partition(row, len(row) - top_k)[-top_k:]
    weights = np.exp(values - row.max())
    total = float(weights.sum(dtype=np.float64))
    least = parameters.min_p
    if parameters.top_p < 1:  # half that share, so that rounding does not matter
        least = max(least, (1 - parameters.top_p) / 2 * total / len(values))
    ranked = -np.sort(-values[weights >= least])
    if parameters.top_p < 1:
        reached = np.cumsum(np.exp(ranked - ranked[0]), dtype=np.float64)
        ranked = ranked[: int(np.searchsorted(reached, parameters.top_p * total)) + 1]
    bounds = np.cumsum(weights_of(ranked, parameters.temperature), dtype=np.float64)
    drawn = place(bounds, chance * bounds[-1])
    before = np.count_nonzero(ranked > ranked[drawn])  # of equal ones the lower id comes first
    return int(np.flatnonzero(row == ranked[drawn])[drawn - before])


def draw_from_all(row: Row, temperature: float, chance: float) -> int:
    """`draw` without filters: finds a block of tokens first, and then the token in it."""
    weights = weights_of(row, temperature)
    sums = np.add.reduceat(weights, np.arange(0, len(row), _BLOCK))
    bounds = np.cumsum(sums, dtype=np.float64)
    target = chance * bounds[-1]
    block = place(bounds, target)
    start = block * _BLOCK
    inside = np.cumsum(weights[start : start + _BLOCK], dtype=np.float64)
    return start + place(inside, target - bounds[block] + inside[-1])


def weights_of(logits: Row, temperature: float) -> Row:
    """Probabilities at `temperature`, up to a common factor: the largest is 1."""
    with np.errstate(over="ignore"):  # to -inf, whose weight is 0, as it should be
        scaled: Row = (logits - logits.max()) / usable(temperature)
    return np.exp(scaled)


def place(bounds: NDArray[np.float64], target: float) -> int:
    """The first index whose bound is above `target`. Rounding may move that out of all bounds; it
    is clamped so that it never selects an index without a share of its own."""
    inside = min(max(target, 0.0), float(np.nextafter(bounds[-1], 0)))
    return int(np.searchsorted(bounds, inside, side="right"))


def penalised(logits: Row, penalty: float) -> Row:
    """The penalty of Keskar et al. 2019, with the sign rule of `transformers` and llama.cpp."""
    factor = factor_of(penalty)
    lower = np.minimum if penalty > 1 else np.maximum
    result: Row = lower(logits / factor, logits * factor)
    return result


@functools.lru_cache
def factor_of(penalty: float) -> np.float32:
    """The float32 that a penalty multiplies and divides by."""
    return np.float32(min(max(penalty, 1 / _HARDEST), _HARDEST))


@functools.lru_cache
def usable(number: float) -> np.float32:
    """The nearest float32 by which a logit can be divided: neither 0 nor infinite."""
    return np.float32(min(max(number, _LEAST), _MOST))
