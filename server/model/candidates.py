"""What is told of a row of logits that stays on a device. Knows arrays only."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True, eq=False)
class Candidates:
    """The largest logits of one row, and what all of them add up to; good until the next call."""

    ids: NDArray[np.int64]
    """[k], those of the largest logits first; equal ones in any order, and any of those that equal
    the last one may be missing."""
    logits: NDArray[np.float32]
    """[k], falling."""
    log_sum_exp: float
    """Of the whole row, near the precision of float32; not finite where a logit is not a number."""
    best: int | None
    """The id of the largest, unless another may equal it: all that a greedy choice needs."""
    whole: Callable[[], NDArray[np.float32]]
    """Fetches the row [V]."""
