"""The progress of a long task, as values for whoever shows it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How many of a stage's steps are done."""

    stage: str
    """Words for a person, such as "writing layers"."""
    done: int
    total: int


Report = Callable[[Progress], None]
"""Is called when a stage begins, with 0 done, and after each step."""


def steps(report: Report, stage: str, total: int) -> Callable[[], None]:
    """Begins a stage and returns a function to call after each of its steps."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        report(Progress(stage, done, total))

    report(Progress(stage, done, total))
    return step


def unseen(progress: Progress) -> None:
    """A `Report` that shows nothing."""
