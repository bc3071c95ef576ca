"""The top-k logits of a row whose full logits stay on the GPU. Knows arrays only."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True, eq=False)
class Candidates:
    """The largest logits of one row, and the log-sum-exp of all. Valid until the next call."""

    ids: NDArray[np.int64]
    """[k], by falling logit. Ties are in any order, and some of those that tie with the last one
    may be missing."""
    logits: NDArray[np.float32]
    """[k], falling."""
    log_sum_exp: float
    """Of the whole row, to about float32 precision; not finite if a logit is NaN."""
    best: int | None
    """The id of the largest logit, all that a greedy choice needs; None if another may equal it."""
    whole: Callable[[], NDArray[np.float32]]
    """Fetches the whole row [V]."""
