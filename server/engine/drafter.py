"""How much a sequence drafts: more while drafts are accepted, next to nothing while they are not.

Knows one sequence's own history; does not know load or time. So a sequence drafts the same alone
and beside others.
"""

from typing import Protocol

from server.engine.lookup import Draft, Lookup
from server.model.tensor_types import Tokens

FIRST_LENGTH = 4
LONGEST_PAUSE = 64
"""The most tokens without a draft, so that a text that begins to repeat is noticed."""


class Drafter(Protocol):
    """Guesses the next tokens of one sequence."""

    def draft(self, generated: list[int], room: int) -> Draft:
        """Returns at most `room` tokens that may follow `generated`, which grew since the last
        call."""

    def verified(self, drafted: int, accepted: int) -> None:
        """Records that of the last draft's `drafted` tokens the first `accepted` were right."""


class LookupDrafter:
    """Drafts by prompt lookup. After a draft that was accepted whole the next one is twice as long,
    after one accepted in part as long as that part. After a rejected one there is a pause, twice as
    long each time in a row, and then a draft of one token: free text comes to cost one drafted
    token in `LONGEST_PAUSE`.
    """

    def __init__(self, prompt: Tokens, longest: int) -> None:
        """`longest` is the most tokens of one draft, 1 or more."""
        self._lookup = Lookup()
        self._lookup.extend(prompt.tolist())
        self._generated = 0
        """How many generated tokens the lookup has."""
        self._longest = longest
        self._length = min(FIRST_LENGTH, longest)
        self._pause = 1
        self._pause_left = 0
        self.drafted = 0
        """Tokens in all."""
        self.accepted = 0

    def draft(self, generated: list[int], room: int) -> Draft:
        """See `Drafter`."""
        new = generated[self._generated :]
        self._generated = len(generated)
        self._lookup.extend(new)
        if self._pause_left:
            self._pause_left -= 1
            return ()
        return self._lookup.continuation(min(self._length, room))

    def verified(self, drafted: int, accepted: int) -> None:
        """See `Drafter`."""
        self.drafted += drafted
        self.accepted += accepted
        if accepted:
            self._length = min(2 * accepted if accepted == drafted else accepted, self._longest)
            self._pause = 1
        else:
            self._length = 1
            self._pause_left = self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
