"""Summary statistics of many figures of one kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COLUMNS = ("mean", "deviation", "min", "p50", "p90", "p95", "p99", "max")


@dataclass(frozen=True, slots=True)
class Distribution:
    mean: float
    deviation: float
    """Sample standard deviation; 0 for a single figure."""
    percentiles: tuple[float, ...]
    """The 0th, 50th, 90th, 95th, 99th and 100th, interpolated linearly."""

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Distribution":
        """Summarizes one or more figures."""
        array = np.asarray(figures, np.float64)
        deviation = float(array.std(ddof=1)) if len(array) > 1 else 0.0
        percentiles = np.percentile(array, (0, 50, 90, 95, 99, 100))
        return cls(float(array.mean()), deviation, tuple(map(float, percentiles)))

    @property
    def cells(self) -> tuple[float, ...]:
        """All values, in the order of `COLUMNS`."""
        return (self.mean, self.deviation, *self.percentiles)
