"""How far a long task is, as values for whoever shows it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """So many of a stage's steps are done."""

    stage: str
    """Words for a person, such as "writing layers"."""
    done: int
    total: int


Report = Callable[[Progress], None]
"""Is called when a stage begins, with 0 done, and after each step."""


def unseen(progress: Progress) -> None:
    """A `Report` that shows nothing."""
