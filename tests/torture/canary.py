"""Streams that nobody disturbs on purpose: what they get, and how evenly it comes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import trio

from tests.torture.client import Target, ask, comparable, receive

PROMPTS = ("Once upon a time", "The history of the sea begins")
TOKENS = 3000
"""More than can come while anybody listens."""
_TOKEN = b'"Token"'
_LINE_END = b"\n\r\n"


@dataclass(slots=True)
class Canary:
    """One stream, as it is read until it is cancelled."""

    prompt: str
    heard: bytearray = field(default_factory=bytearray)
    arrivals: list[float] = field(default_factory=list)
    """When each token came."""
    sings: trio.Event = field(default_factory=trio.Event)
    """Set by the first token."""

    async def sing(self, target: Target) -> None:
        async with await target.connect() as stream:
            await stream.send_all(ask(self.prompt, TOKENS))
            while data := await receive(stream):
                self.heard += data
                self.arrivals += [trio.current_time()] * data.count(_TOKEN)
                if self.arrivals:
                    self.sings.set()

    def gaps_since(self, start: float) -> list[float]:
        """Seconds between tokens that came after `start`."""
        times = [time for time in self.arrivals if time >= start]
        return [later - earlier for earlier, later in pairwise(times)]

    @property
    def song(self) -> bytes:
        """Its whole lines."""
        return comparable(bytes(self.heard[: self.heard.rfind(_LINE_END) + len(_LINE_END)]))


def same_songs(some: Sequence[Canary], others: Sequence[Canary]) -> bool:
    """Whether they say the same, byte for byte, as far as both of them came."""
    pairs = [(one.song, other.song) for one, other in zip(some, others, strict=True)]
    return all(one.startswith(other) or other.startswith(one) for one, other in pairs)


def percentile(figures: Sequence[float], share: float) -> float:
    """The nearest rank."""
    ordered = sorted(figures)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
