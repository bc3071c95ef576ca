"""Who has a slot and who waits for one, in order of arrival. Pure: no clock, no tokens.

Counts requests, not sequences: whether there is room is known before a prompt is tokenised. The
scheduler assigns the slots themselves, in the same order.
"""

from enum import Enum


class Standing(Enum):
    """How a request stands when it arrives."""

    ADMITTED = "there is a slot for it"
    """Where slots share memory pages, it may still have to wait for some."""
    BUFFERED = "it waits for a slot"
    REFUSED = "there is no room to wait in"


class Admission:
    """Requests by their keys, from arrival until their slot is free again."""

    def __init__(self, buffered_requests: int) -> None:
        """Until `open` there are no slots, and every request waits."""
        self._slots = 0
        self._room = buffered_requests
        self._admitted: set[int] = set()
        self._buffered: dict[int, None] = {}
        """In order of arrival."""

    @property
    def slots(self) -> int:
        """0 until `open`."""
        return self._slots

    @property
    def admitted(self) -> list[int]:
        """Requests that have a slot, in order of arrival."""
        return sorted(self._admitted)

    @property
    def buffered(self) -> int:
        """How many requests wait for a slot."""
        return len(self._buffered)

    def open(self, slots: int) -> list[int]:
        """Provides the slots; returns the waiting requests that are admitted to them."""
        self._slots = slots
        first = list(self._buffered)[:slots]
        for key in first:
            self._admit(key)
        return first

    def enter(self, key: int) -> Standing:
        """Adds a request that arrives, unless it is refused."""
        if len(self._admitted) < self._slots:
            self._admitted.add(key)
            return Standing.ADMITTED
        if len(self._buffered) < self._room:
            self._buffered[key] = None
            return Standing.BUFFERED
        return Standing.REFUSED

    def leave(self, key: int) -> int | None:
        """Removes a request, wherever it is; returns the one admitted in its place, if any."""
        self._buffered.pop(key, None)
        self._admitted.discard(key)
        if not self._buffered or len(self._admitted) == self._slots:
            return None
        first = next(iter(self._buffered))
        self._admit(first)
        return first

    def _admit(self, key: int) -> None:
        del self._buffered[key]
        self._admitted.add(key)
