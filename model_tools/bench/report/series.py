"""Raw figures, kept so that runs can be compared and drawn later."""

from dataclasses import dataclass
from enum import Enum


class Better(Enum):
    HIGHER = "higher"
    LOWER = "lower"


class Of(Enum):
    """What one figure describes."""

    ROUND = "round"
    """A repetition of a test, or a round of a load."""
    REQUEST = "request"
    GAP = "gap"
    """The time between two tokens. Gaps of one stream are correlated, so that their number proves
    little."""


@dataclass(frozen=True, slots=True)
class Series:
    """Figures of one measure, for one test and one subject."""

    test: str
    """What was run, such as "tg128" or "8 clients"."""
    subject: str
    """What was measured, such as an engine or a server."""
    measure: str
    better: Better
    of: Of
    samples: tuple[float, ...]
    at: float | None = None
    """Where the test stands on a curve: clients, or requests per second."""
