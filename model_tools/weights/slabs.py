"""Converts a matrix in slabs of rows, on all cores: numpy releases the GIL while it converts."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from server.cores import usable_cores

T = TypeVar("T")

ROWS_AT_ONCE = 256
"""Bounds the temporaries of a large matrix, such as a vocabulary's, for each core."""


def by_slabs(convert: Callable[[slice], T], rows: int) -> list[T]:
    """Returns the result of `convert` for each slab of rows, in order."""
    slabs = [slice(start, start + ROWS_AT_ONCE) for start in range(0, rows, ROWS_AT_ONCE)]
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(convert, slabs))
