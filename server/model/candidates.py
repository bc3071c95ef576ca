"""What is told of a row of logits that stays on a device. Knows numbers only."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True, eq=False)
class Candidates:
    """The largest logits of one row, and what all of them add up to; good until the next call."""

    ids: list[int]
    """Those of the largest logits first; equal ones in any order, and any of those that equal the
    last one may be missing."""
    logits: list[float]
    """Falling."""
    log_sum_exp: float
    """Of the whole row, near the precision of float32; not finite where a logit is not a number."""
    whole: Callable[[], NDArray[np.float32]]
    """Fetches the row [V]."""
