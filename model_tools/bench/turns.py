"""Who is first, of those that take turns."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def in_turn(number: int, those: Sequence[T]) -> Sequence[T]:
    """Their order in a round. It is reversed in every other one: a machine that slows down would be
    the fault of whoever is always last."""
    return those[:: -1 if number % 2 else 1]
