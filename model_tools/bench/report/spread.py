"""Summaries of repeated figures, and how figures are shown."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

DIGITS = 4
"""Significant digits; measurements on a shared machine have fewer."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and deviation of repeated figures."""

    mean: float
    deviation: float
    """Sample standard deviation; 0 for a single figure."""

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        deviation = statistics.stdev(figures) if len(figures) > 1 else 0.0
        return cls(statistics.mean(figures), deviation)

    def __str__(self) -> str:
        decimals = _decimals(self.mean)
        return f"{self.mean:.{decimals}f} ± {self.deviation:.{decimals}f}"


@dataclass(frozen=True, slots=True)
class Middle:
    """Median and extremes of repeated figures. One figure that other work on the machine has
    spoiled moves a mean, but not a median."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Middle":
        return cls(statistics.median(figures), min(figures), max(figures))

    def __str__(self) -> str:
        decimals = min(_decimals(self.median), 3)
        low, high = f"{self.low:.{decimals}f}", f"{self.high:.{decimals}f}"
        return f"{self.median:.{decimals}f} ({low} to {high})"


def shown(figure: float) -> str:
    """Formats with four significant digits, never in powers of ten."""
    return f"{figure:.{_decimals(figure)}f}"


def _decimals(figure: float) -> int:
    if figure == 0 or not math.isfinite(figure):
        return 0
    return max(0, DIGITS - 1 - math.floor(math.log10(abs(figure))))
