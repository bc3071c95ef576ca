"""Figures, and their text form for Prometheus, written by hand. Does not know what they measure.

One thread writes a figure and any other may read it, without a lock: a reader may be a step behind,
but no number is ever torn.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Kind(Enum):
    """Each value is Prometheus' word for it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: a value, and the labels that tell it from the others of its family."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""
    """Follows the family's name."""


@dataclass(frozen=True, slots=True)
class Family:
    """Samples under one name."""

    name: str
    kind: Kind
    help: str
    """One line."""
    samples: tuple[Sample, ...]


class Histogram:
    """Counts observations by size."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """`bounds` are the upper ones of the buckets, inclusive, in order. One without follows."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Counts `count` observations of one value."""
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def samples(self) -> tuple[Sample, ...]:
        """Cumulative, as Prometheus has them."""
        totals = list(accumulate(self._counts))
        names = [*map(_number, self._bounds), "+Inf"]
        buckets = [
            Sample(total, {"le": name}, "_bucket")
            for name, total in zip(names, totals, strict=True)
        ]
        return (*buckets, Sample(self._sum, suffix="_sum"), Sample(totals[-1], suffix="_count"))


def exposition(families: Iterable[Family]) -> str:
    """The text format, version 0.0.4."""
    return "".join(line + "\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterable[str]:
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.kind.value}"
    for sample in family.samples:
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels.items())
        braces = f"{{{labels}}}" if labels else ""
        yield f"{family.name}{sample.suffix}{braces} {_number(sample.value)}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    """The shortest text that reads as the same float."""
    return str(value)
