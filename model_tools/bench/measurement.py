"""Timing engines in alternation, and what the times say.

Knows runners and workloads; does not know what they run on.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model_tools.bench.workload import Runner, Workload


@dataclass(frozen=True, slots=True)
class Spread:
    """Repeated figures."""

    mean: float
    deviation: float
    """Of a sample; 0 for a single figure."""

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        deviation = statistics.stdev(figures) if len(figures) > 1 else 0.0
        return cls(statistics.mean(figures), deviation)

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.deviation:.2f}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One workload on each runner."""

    workload: Workload
    rates: list[Spread]
    """Tokens per second, one for each runner."""
    ratios: list[Spread]
    """The first runner's rate over that of each later one. A repetition is compared with the same
    repetition, so that what a shared machine does to both cancels out."""


def measure(
    runners: Sequence[Runner],
    workloads: Sequence[Workload],
    *,
    vocabulary_size: int,
    repetitions: int,
) -> Iterator[Measurement]:
    """Each workload once to warm up, and then timed, the runners taking turns."""
    for workload in workloads:
        prompts = workload.prompts(vocabulary_size)
        rates: list[list[float]] = [[] for _ in runners]
        for repetition in range(repetitions + 1):
            for runner, figures in zip(runners, rates, strict=True):
                seconds = runner.run(prompts, workload.new_tokens)
                if repetition > 0:
                    figures.append(workload.tokens / seconds)
        first, *others = rates
        yield Measurement(
            workload,
            rates=[Spread.of(figures) for figures in rates],
            ratios=[Spread.of(_ratios(first, figures)) for figures in others],
        )


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [our / their for our, their in zip(ours, theirs, strict=True)]
