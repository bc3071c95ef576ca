"""What may come next, out of what came before: how it went on where the text once ended alike.

Prompt lookup (Saxena 2023): who edits or extracts repeats long pieces of what was read, and there
the text is its own draft model. Knows tokens only, nothing of who verifies a draft.
"""

from collections.abc import Iterable

Draft = tuple[int, ...]
"""Tokens that may come next, the next one first."""

SHORTEST_MATCH = 2
"""Tokens that an earlier place must have in common with the end to say anything."""
LONGEST_MATCH = 8
"""More in common tells no more."""
MOST_PLACES = 64
"""How many places are looked at, so that a text of one pair over and over costs no more."""


class Lookup:
    """Tokens of one sequence, searchable by their last pair."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._latest: dict[tuple[int, int], int] = {}
        """For each pair, where it last ended: the index behind it."""
        self._before: list[int | None] = []
        """For each place behind a pair, from 2 on, the one before it with the same pair."""

    def extend(self, tokens: Iterable[int]) -> None:
        """Takes in what came next."""
        for token in tokens:
            self._tokens.append(token)
            end = len(self._tokens)
            if end >= SHORTEST_MATCH:
                pair = (self._tokens[-2], token)
                self._before.append(self._latest.get(pair))
                self._latest[pair] = end

    def continuation(self, most: int) -> Draft:
        """What followed where most of the last tokens stood before, the latest such place; as if
        the text went on like that where it is at its end. `()` where there is no such place."""
        best, longest = None, 0
        for place in self._places():
            length = self._in_common(place)
            if length > longest:
                best, longest = place, length
            if longest == LONGEST_MATCH:
                break
        if best is None:
            return ()
        period = len(self._tokens) - best
        return tuple(self._tokens[best + index % period] for index in range(most))

    def _places(self) -> Iterable[int]:
        """Earlier places behind the last pair, the latest first."""
        place = self._before[-1] if self._before else None
        for _ in range(MOST_PLACES):
            if place is None:
                break
            yield place
            place = self._before[place - SHORTEST_MATCH]

    def _in_common(self, place: int) -> int:
        """Tokens before `place` that are those of the end, as far as they count."""
        length = SHORTEST_MATCH
        while (
            length < min(place, LONGEST_MATCH)
            and self._tokens[place - 1 - length] == self._tokens[-1 - length]
        ):
            length += 1
        return length
