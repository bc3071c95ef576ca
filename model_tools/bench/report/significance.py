"""Whether two sets of figures differ by more than chance: a permutation test of their means.

It asks how often dealing all figures out anew gives two means at least as far apart. It needs no
assumption about how figures are distributed, and with few of them it says so instead of guessing.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.01
"""A difference that chance makes less often than this exceeds the noise. Stricter than the usual
0.05, since a comparison looks at several figures at once."""
DEALS = 10_000
"""All ways of dealing are tried if there are no more than these, else so many at random."""


def chance(first: Sequence[float], second: Sequence[float]) -> float:
    """The probability of such a difference, were both of one kind."""
    figures = np.array([*first, *second], np.float64)
    total, count = figures.sum(), len(first)
    difference = abs(np.mean(first) - np.mean(second))
    sums = np.array([figures[dealt].sum() for dealt in _deals(len(figures), count)])
    differences = np.abs(sums / count - (total - sums) / len(second))
    # Sums in another order round in another way.
    return float(np.mean(differences >= difference * (1 - 1e-9)))


def enough(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether any difference of so many figures could exceed the noise."""
    return 2 / math.comb(len(first) + len(second), len(first)) <= LEVEL


def _deals(total: int, count: int) -> Iterator[NDArray[np.intp]]:
    """Places of those that fall to the first set; the true ones among them."""
    if math.comb(total, count) <= DEALS:
        yield from (np.array(dealt) for dealt in itertools.combinations(range(total), count))
        return
    source = np.random.default_rng(0)
    yield np.arange(count)
    for _ in range(DEALS):
        yield source.permutation(total)[:count]
