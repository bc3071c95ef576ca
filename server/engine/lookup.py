"""Drafts from the text itself: the tokens that followed an earlier match of its ending.

Prompt lookup (Saxena 2023): an answer that edits or extracts repeats long pieces of its prompt, and
there the text is its own draft model. Knows tokens only; does not know who verifies a draft.
"""

from collections.abc import Iterable

Draft = tuple[int, ...]
"""Tokens that may come next, the next one first."""

SHORTEST_MATCH = 2
"""Tokens that an earlier passage must have in common with the text's ending to count."""
LONGEST_MATCH = 8
"""Longer matches predict no better."""
MAX_MATCHES = 64
"""The most earlier matches compared, so that a text of one pair over and over costs no more."""


class Lookup:
    """Tokens of one sequence, searchable by their last pair."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._latest: dict[tuple[int, int], int] = {}
        """For each pair of tokens, the index after its latest occurrence."""
        self._before: list[int | None] = []
        """For each index after a pair, from 2 on, the previous one with the same pair before it."""

    def extend(self, tokens: Iterable[int]) -> None:
        """Appends the tokens that came next."""
        for token in tokens:
            self._tokens.append(token)
            end = len(self._tokens)
            if end >= SHORTEST_MATCH:
                pair = (self._tokens[-2], token)
                self._before.append(self._latest.get(pair))
                self._latest[pair] = end

    def continuation(self, count: int) -> Draft:
        """The `count` tokens that followed the longest earlier match of the text's ending, the
        latest on a tie. Where fewer follow it, they are repeated. `()` without a match."""
        best, longest = None, 0
        for end in self._earlier_ends():
            length = self._match_length(end)
            if length > longest:
                best, longest = end, length
            if longest == LONGEST_MATCH:
                break
        if best is None:
            return ()
        period = len(self._tokens) - best
        return tuple(self._tokens[best + index % period] for index in range(count))

    def _earlier_ends(self) -> Iterable[int]:
        """Indices after earlier occurrences of the last pair, the latest first."""
        end = self._before[-1] if self._before else None
        for _ in range(MAX_MATCHES):
            if end is None:
                break
            yield end
            end = self._before[end - SHORTEST_MATCH]

    def _match_length(self, end: int) -> int:
        """How many tokens before `end` equal the text's last ones, up to `LONGEST_MATCH`."""
        length = SHORTEST_MATCH
        while (
            length < min(end, LONGEST_MATCH)
            and self._tokens[end - 1 - length] == self._tokens[-1 - length]
        ):
            length += 1
        return length
