"""Keys and values of ended sequences, for prompts that begin alike. Bounded; the least recently
used is dropped first.

Knows tokens and copies; does not know slots or running sequences.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from server.engine.decoder import SavedKv
from server.model.kv_shape import pages_for
from server.model.tensor_types import Tokens


@dataclass(frozen=True, slots=True)
class Kept:
    """A copy of the keys and values of `tokens`."""

    tokens: Tokens
    saved: SavedKv


class KeptPrefixes:
    """No kept sequence is a prefix of another one, since the longer one serves both.

    They are in lexicographic order, where the one that has most in common with a prompt is right
    before or right after the prompt's own position: no other is compared with it.
    """

    def __init__(self, capacity: int, token_bytes: int, page_tokens: int = 1) -> None:
        """Keeps at most `capacity` bytes, in whole pages; a token takes `token_bytes`."""
        self._page_tokens = page_tokens
        self._max_tokens = capacity // token_bytes // page_tokens * page_tokens
        self.tokens = 0
        """Size of all that is kept, in tokens of whole pages."""
        self._in_order: list[bytes] = []
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        """The most recently used last."""

    def longest(self, prompt: Tokens) -> tuple[Kept | None, int]:
        """The kept sequence with the longest prefix in common, and that prefix's length."""
        shared = {
            name: common_length(prompt, self._kept[name].tokens)
            for name in self._neighbours(_name(prompt))
        }
        best = max(shared, key=shared.__getitem__, default=b"")
        if not shared.get(best):
            return None, 0
        return self._kept[best], shared[best]

    def used(self, kept: Kept) -> None:
        """Marks a kept sequence as just used, and so as the last to be dropped."""
        self._kept.move_to_end(_name(kept.tokens))

    def add(self, tokens: Tokens, save: Callable[[int], SavedKv]) -> None:
        """Keeps a sequence, cut to the capacity; `save(n)` copies its first n tokens."""
        tokens = tokens[: self._max_tokens]
        if not len(tokens):
            return
        name = _name(tokens)
        for other in self._neighbours(name):
            if other.startswith(name):
                self._kept.move_to_end(other)
                return
            if name.startswith(other):
                self._drop(other)
        while self.tokens + self._size(tokens) > self._max_tokens:
            self.drop_oldest()
        self._kept[name] = Kept(tokens, save(len(tokens)))
        insort(self._in_order, name)
        self.tokens += self._size(tokens)

    def drop_oldest(self) -> bool:
        """Drops the least recently used; returns False if nothing is kept."""
        oldest = next(iter(self._kept), None)
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None

    def _neighbours(self, name: bytes) -> list[bytes]:
        index = bisect_left(self._in_order, name)
        return self._in_order[max(index - 1, 0) : index + 1]

    def _drop(self, name: bytes) -> None:
        self.tokens -= self._size(self._kept.pop(name).tokens)
        del self._in_order[bisect_left(self._in_order, name)]

    def _size(self, tokens: Tokens) -> int:
        return pages_for(len(tokens), self._page_tokens) * self._page_tokens


def common_length(one: Tokens, other: Tokens) -> int:
    """How many tokens both have in common at the beginning."""
    shorter = min(len(one), len(other))
    differing = one[:shorter] != other[:shorter]
    first = int(differing.argmax()) if shorter else 0
    return first if shorter and differing[first] else shorter


def _name(tokens: Tokens) -> bytes:
    """All tokens as big-endian bytes: ordered, and equal, as the tokens are."""
    return tokens.astype(np.dtype(">u4")).tobytes()
