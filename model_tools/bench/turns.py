"""The order in which subjects of a comparison run in a round."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def in_turn(number: int, subjects: Sequence[T]) -> Sequence[T]:
    """Returns the order for round `number`, reversed in every other round: otherwise a machine that
    slows down would count against whoever is always last."""
    return subjects[:: -1 if number % 2 else 1]
