"""How much a sequence drafts: more where drafts are accepted, next to nothing where they are not.

Knows one sequence's own history and nothing else: neither load nor time. So a sequence drafts the
same alone and beside others.
"""

from typing import Protocol

from server.engine.lookup import Draft, Lookup
from server.model.tensor_types import Tokens

FIRST_LENGTH = 4
LONGEST_PAUSE = 64
"""Tokens that at most go by without a draft: then a text that begins to repeat is noticed."""


class Drafter(Protocol):
    """Guesses what one sequence goes on with."""

    def draft(self, generated: list[int], room: int) -> Draft:
        """At most `room` tokens that may follow `generated`, which grew since the last call."""

    def verified(self, drafted: int, accepted: int) -> None:
        """So many tokens of the last draft turned out to be right, from its beginning."""


class LookupDrafter:
    """Drafts by looking up. A draft that was right is followed by one twice as long, one that was
    right in part by one as long as that part, and one that was wrong by a pause, twice as long each
    time in a row: free text comes to cost a draft of one token in `LONGEST_PAUSE`.
    """

    def __init__(self, prompt: Tokens, longest: int) -> None:
        """`longest` is the most tokens of one draft, 1 or more."""
        self._lookup = Lookup()
        self._lookup.extend(prompt.tolist())
        self._generated = 0
        """How many generated tokens were looked at."""
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
