"""Whether to make the next decode call before it is asked for, and whether it is the one asked for.

A device with nothing queued stands still while the host reads what came, chooses tokens and queues
the next call. Of that call the host knows all but the tokens, and of these the device knows the
most probable ones. So the call is made with them, as long as they were nearly always the ones that
were asked for: else what is asked for waits behind a call that nobody needs.

Knows what was asked for; does not know how calls are made.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

Made = TypeVar("Made")

_MEMORY = 32
"""Calls that are remembered."""
TRUSTED = 0.93
"""Share of calls that were foreseen from which on it pays: one that was not costs about a step, one
that was gains 5 to 18 % of one (1B in float16 on an H200, 1 and 32 rows, slots and pages)."""


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """A decode call: a token for each of neighbouring slots, after so many in each."""

    first_slot: int
    tokens: list[int]
    pasts: list[int]


class DecodeAhead(Generic[Made]):
    """Remembers how often the next call was the one that was expected."""

    def __init__(self, least: float = TRUSTED) -> None:
        """`least` is the share of calls from which on it is trusted."""
        self._least = least
        self._share = 1.0
        self._expected: DecodeRequest | None = None
        self._made: Made | None = None

    @property
    def trusted(self) -> bool:
        return self._share > self._least

    def expect(self, asked: DecodeRequest, made: Made | None) -> None:
        """The next call will be this one, if nothing else happens; it may have been made."""
        self._expected, self._made = asked, made

    def take(self, asked: DecodeRequest) -> Made | None:
        """The call that was made, if it is the one that is asked for."""
        right = self._expected == asked
        return self._end(right=right) if self._expected else None

    def lost(self) -> None:
        """Something else happens than a decode call."""
        if self._expected:
            self._end(right=False)

    def _end(self, *, right: bool) -> Made | None:
        self._share += (right - self._share) / _MEMORY
        made, self._expected, self._made = self._made, None, None
        return made if right else None
