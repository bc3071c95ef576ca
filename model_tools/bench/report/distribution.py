"""What many figures of one kind look like together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COLUMNS = ("mean", "deviation", "min", "p50", "p90", "p95", "p99", "max")


@dataclass(frozen=True, slots=True)
class Distribution:
    mean: float
    deviation: float
    """Of a sample; 0 for a single figure."""
    percentiles: tuple[float, ...]
    """0, 50, 90, 95, 99 and 100; between two figures in a straight line."""

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Distribution":
        """Of one figure or more."""
        array = np.asarray(figures, np.float64)
        deviation = float(array.std(ddof=1)) if len(array) > 1 else 0.0
        percentiles = np.percentile(array, (0, 50, 90, 95, 99, 100))
        return cls(float(array.mean()), deviation, tuple(map(float, percentiles)))

    @property
    def cells(self) -> tuple[float, ...]:
        """In the order of `COLUMNS`."""
        return (self.mean, self.deviation, *self.percentiles)
