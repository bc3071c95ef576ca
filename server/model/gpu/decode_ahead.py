"""Decides whether to queue the next decode call before it is requested, and checks the guess.

A device with nothing queued is idle while the host reads results, chooses tokens and queues the
next call. The host knows all of that call but its tokens, and the device knows the most probable
ones. The next call is queued early with each row's most probable token, while that guess has nearly
always been right; a wrong guess delays the real call.

Knows which calls were requested; does not know how calls are made.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

Made = TypeVar("Made")

_MEMORY = 32
"""Length, in calls, of the moving average of right guesses."""
TRUSTED = 0.93
"""The share of right guesses above which it pays: a wrong one costs about a step, a right one gains
5 to 18 % of a step (1B in float16 on an H200, 1 and 32 rows, slots and pages)."""


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """A decode call: a token for each of neighbouring slots, after the first `pasts` of each."""

    first_slot: int
    tokens: list[int]
    pasts: list[int]


class DecodeAhead(Generic[Made]):
    """Tracks how often the next call was the expected one."""

    def __init__(self, threshold: float = TRUSTED) -> None:
        """Guesses are trusted while the share of right ones is above `threshold`."""
        self._threshold = threshold
        self._share = 1.0
        self._expected: DecodeRequest | None = None
        self._made: Made | None = None

    @property
    def trusted(self) -> bool:
        return self._share > self._threshold

    def expect(self, request: DecodeRequest, made: Made | None) -> None:
        """Sets the expected next call; `made` is that call if it was queued early."""
        self._expected, self._made = request, made

    def take(self, request: DecodeRequest) -> Made | None:
        """Returns the call that was queued early, if it is the one requested."""
        right = self._expected == request
        return self._resolve(right=right) if self._expected else None

    def lost(self) -> None:
        """Counts the guess as wrong: something other than a decode call is next."""
        if self._expected:
            self._resolve(right=False)

    def _resolve(self, *, right: bool) -> Made | None:
        self._share += (right - self._share) / _MEMORY
        made, self._expected, self._made = self._made, None, None
        return made if right else None
