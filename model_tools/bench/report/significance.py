"""Whether two sets of figures differ by more than chance: a permutation test of their means.

The test asks how often a random split of all figures into two sets gives means at least as far
apart. It needs no assumption about how figures are distributed. With too few figures, `enough` says
so.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.01
"""A difference counts if its probability by chance is at most this. Stricter than the usual 0.05,
since a comparison looks at several figures at once."""
DEALS = 10_000
"""All splits are tried if there are at most so many; otherwise so many random ones."""


def chance(first: Sequence[float], second: Sequence[float]) -> float:
    """The p-value: the probability of such a difference in means if both came from the same
    distribution."""
    figures = np.array([*first, *second], np.float64)
    total, count = figures.sum(), len(first)
    difference = abs(np.mean(first) - np.mean(second))
    sums = np.array([figures[dealt].sum() for dealt in _deals(len(figures), count)])
    differences = np.abs(sums / count - (total - sums) / len(second))
    # The same figures, summed in another order, may round differently.
    return float(np.mean(differences >= difference * (1 - 1e-9)))


def enough(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether there are enough figures for any difference to reach `LEVEL`."""
    return 2 / math.comb(len(first) + len(second), len(first)) <= LEVEL


def _deals(total: int, count: int) -> Iterator[NDArray[np.intp]]:
    """Yields the indices of the first set for each split; one is the true split."""
    if math.comb(total, count) <= DEALS:
        yield from (np.array(dealt) for dealt in itertools.combinations(range(total), count))
        return
    source = np.random.default_rng(0)
    yield np.arange(count)
    for _ in range(DEALS):
        yield source.permutation(total)[:count]
