"""Logits to what may be drawn, and to what is. Knows arrays and parameters, no sampler's state.

Filters see probabilities at temperature 1; equal logits rank by id, the lower one first.

A row is some 50,000 logits and a step has a row for each stream, so that a full sort or a pass in
Python would take longer than the model: whole rows are only ever read by single vector operations,
and what is sorted are the few candidates that can still be drawn.
"""

import numpy as np
from numpy.typing import NDArray

from server.config import SamplingParameters

Row = NDArray[np.float32]
Ids = NDArray[np.intp]

_COLUMNS = 1024
"""Groups into which `largest` parts a row."""
_BLOCK = 256
"""Neighbouring tokens whose probabilities `draw_from_all` adds up first."""
COLDEST = np.finfo(np.float32).tiny
"""A temperature below this would be 0 in float32, and 0 / 0 is no weight."""
_NUCLEUS_GUESSES = (64, 512)
"""Candidates with which a top-p set is tried, before the whole row is sorted."""


def keep(row: Row, parameters: SamplingParameters) -> Ids | None:
    """Ids that pass top-k, top-p and min-p, in no particular order; None if there is no filter."""
    kept: Ids | None = None
    if 0 < parameters.top_k < len(row):
        kept = largest(row, parameters.top_k)
    if parameters.top_p < 1:
        kept = _nucleus(row, kept, parameters.top_p)
    if parameters.min_p > 0:
        bound = row.max() + np.log(parameters.min_p)
        kept = np.flatnonzero(row >= bound) if kept is None else kept[row[kept] >= bound]
    return kept


def _nucleus(row: Row, ranked: Ids | None, top_p: float) -> Ids:
    """The fewest tokens, most probable first, whose share reaches `top_p`: of the `ranked` ones
    (largest first), or of the whole row."""
    peak = row.max()
    if ranked is not None:
        reached = np.cumsum(np.exp(row[ranked] - peak), dtype=np.float64)
        return ranked[: reaching(reached, top_p * reached[-1])]
    wanted = top_p * float(np.exp(row - peak).sum())
    for guess in _NUCLEUS_GUESSES:
        ranked = largest(row, guess)
        reached = np.cumsum(np.exp(row[ranked] - peak), dtype=np.float64)
        if reached[-1] >= wanted:
            return ranked[: reaching(reached, wanted)]
    values = -np.sort(-row)
    reached = np.cumsum(np.exp(values - peak), dtype=np.float64)
    count = min(reaching(reached, wanted), len(row))
    above = np.flatnonzero(row > values[count - 1])
    equal = np.flatnonzero(row == values[count - 1])
    return np.concatenate([above, equal[: count - len(above)]])


def reaching(reached: NDArray[np.float64], wanted: float) -> int:
    """How many leading entries it takes to reach `wanted`."""
    return int(np.searchsorted(reached, wanted)) + 1


def largest(row: Row, count: int) -> Ids:
    """Indices of the `count` largest values, largest first, of equal ones the lower index first.

    Parted into columns, at least `count` values reach the `count`-th largest of the columns'
    maxima: one comparison with that leaves few candidates to sort.
    """
    if count < _COLUMNS <= len(row):
        whole = len(row) // _COLUMNS * _COLUMNS
        maxima = row[:whole].reshape(-1, _COLUMNS).max(axis=0)
        maxima.partition(_COLUMNS - count)
        candidates = np.flatnonzero(row >= maxima[_COLUMNS - count])
    else:
        candidates = np.arange(len(row))
    order = np.argsort(-row[candidates], kind="stable")
    return candidates[order[:count]]


def draw(logits: Row, temperature: float, chance: float) -> int:
    """An index by the inverse distribution function at `chance`, in [0, 1)."""
    bounds = np.cumsum(weights_of(logits, temperature), dtype=np.float64)
    return place(bounds, chance * bounds[-1])


def draw_from_all(row: Row, temperature: float, chance: float) -> int:
    """`draw` from a whole row: finds the block first, and then the place in it."""
    weights = weights_of(row, temperature)
    sums = np.add.reduceat(weights, np.arange(0, len(row), _BLOCK))
    bounds = np.cumsum(sums, dtype=np.float64)
    target = chance * bounds[-1]
    block = place(bounds, target)
    start = block * _BLOCK
    inside = np.cumsum(weights[start : start + _BLOCK], dtype=np.float64)
    return start + place(inside, target - bounds[block] + inside[-1])


def weights_of(logits: Row, temperature: float) -> Row:
    """Probabilities at `temperature` but for a common factor: the largest is 1."""
    with np.errstate(over="ignore"):  # to -inf, whose weight is 0, as it should be
        scaled: Row = (logits - logits.max()) / max(np.float32(temperature), COLDEST)
    return np.exp(scaled)


def place(bounds: NDArray[np.float64], target: float) -> int:
    """The first index whose bound is above `target`. Rounding may bring that outside of all bounds;
    drawn in again, it never falls on an index that has no share of its own."""
    inside = min(max(target, 0.0), float(np.nextafter(bounds[-1], 0)))
    return int(np.searchsorted(bounds, inside, side="right"))
