"""Raw figures, kept so that runs can be compared and drawn later."""

from dataclasses import dataclass
from enum import Enum


class Better(Enum):
    HIGHER = "higher"
    LOWER = "lower"


class Of(Enum):
    """What one figure stands for."""

    ROUND = "round"
    """A repetition, or a round of a load."""
    REQUEST = "request"
    GAP = "gap"
    """Between two tokens. Those of one stream hang together, so that they prove little."""


@dataclass(frozen=True, slots=True)
class Series:
    """Figures of one kind."""

    test: str
    """What was done, such as "tg128" or "8 clients"."""
    subject: str
    """Who did it."""
    measure: str
    better: Better
    of: Of
    samples: tuple[float, ...]
    at: float | None = None
    """Where the test stands on a curve: clients, or requests per second."""
