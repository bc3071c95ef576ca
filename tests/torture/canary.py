"""Streams that are not attacked themselves: what they receive, and how evenly."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.torture.client import comparable

PROMPTS = ("Once upon a time", "The history of the sea begins")
TOKENS = 3000
"""More than can arrive during a measurement."""
_TOKEN = b'"Token"'
_LINE_END = b"\n\r\n"


@dataclass(slots=True)
class Canary:
    """One stream, with what it received until it was closed."""

    prompt: str
    heard: bytearray = field(default_factory=bytearray)
    arrivals: list[float] = field(default_factory=list)
    """When each token came, in seconds."""

    def hear(self, data: bytes, now: float) -> None:
        self.heard += data
        self.arrivals += [now] * data.count(_TOKEN)

    def gaps_between(self, start: float, end: float) -> list[float]:
        """Seconds between tokens, and from the last one to `end`: it may have fallen silent."""
        times = [start, *(time for time in self.arrivals if start < time < end), end]
        return [later - earlier for earlier, later in pairwise(times)]

    @property
    def song(self) -> bytes:
        """Its complete lines, in comparable form."""
        return comparable(bytes(self.heard[: self.heard.rfind(_LINE_END) + len(_LINE_END)]))


def same_songs(some: Sequence[Canary], others: Sequence[Canary]) -> bool:
    """Whether each pair is the same, byte for byte, as far as both of them came."""
    pairs = [(one.song, other.song) for one, other in zip(some, others, strict=True)]
    return all(one.startswith(other) or other.startswith(one) for one, other in pairs)


def percentile(figures: Sequence[float], share: float) -> float:
    """The sorted figure at index `share * len(figures)`, rounded down: no interpolation."""
    ordered = sorted(figures)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
