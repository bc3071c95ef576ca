"""Rows of logits, and what a device would tell of them."""

import numpy as np
from numpy.typing import NDArray

from server.model.candidates import Candidates

Row = NDArray[np.float32]


class Device:
    """Tells of a row what `model_tools.graph.selection` makes a graph tell; counts how often the
    row itself is asked for."""

    def __init__(self, count: int, seed: int = 0) -> None:
        """`count` is the number of candidates; `seed` decides which of equal logits come first."""
        self._count = count
        self._random = np.random.default_rng(seed)
        self.fetched = 0

    def tell(self, row: Row) -> Candidates:
        order = self._random.permutation(len(row))
        ids = order[np.argsort(-row[order], kind="stable")][: self._count]
        peak = float(row.max())
        with np.errstate(all="ignore"):
            sum_of_all = np.exp(row - row.max(), dtype=np.float32).sum(dtype=np.float32)
            log_sum_exp = float(np.float32(peak + np.log(sum_of_all)))
        alone = len(ids) > 1 and row[ids[0]] > row[ids[1]]
        best = int(ids[0]) if alone else None
        return Candidates(ids, row[ids], log_sum_exp, best, lambda: self._fetch(row))

    def _fetch(self, row: Row) -> Row:
        self.fetched += 1
        return row.copy()
