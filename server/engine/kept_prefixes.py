"""Keys and values of ended sequences, for prompts that begin alike. Bounded; the least recently
used goes first.

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
    """A copy of what the model made of `tokens`."""

    tokens: Tokens
    saved: SavedKv


class KeptPrefixes:
    """No kept sequence is the beginning of another one, since the longer one serves both.

    They lie in lexicographic order, in which whatever has most in common with a prompt stands right
    before or right after the prompt's own place: nothing else is compared with it.
    """

    def __init__(self, capacity: int, token_bytes: int, page_tokens: int = 1) -> None:
        """Keeps `capacity` bytes at most, a token being `token_bytes`, in whole pages."""
        self._page_tokens = page_tokens
        self._most_tokens = capacity // token_bytes // page_tokens * page_tokens
        self.tokens = 0
        """Tokens that there is room for in what is kept."""
        self._in_order: list[bytes] = []
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        """The most recently used last."""

    def longest(self, prompt: Tokens) -> tuple[Kept | None, int]:
        """What has most in common with the prompt, and how many tokens that is."""
        shared = {
            name: common_length(prompt, self._kept[name].tokens)
            for name in self._neighbours(_name(prompt))
        }
        best = max(shared, key=shared.__getitem__, default=b"")
        if not shared.get(best):
            return None, 0
        return self._kept[best], shared[best]

    def used(self, kept: Kept) -> None:
        """Something begins with it: it is the last to be dropped."""
        self._kept.move_to_end(_name(kept.tokens))

    def add(self, tokens: Tokens, save: Callable[[int], SavedKv]) -> None:
        """Keeps as much of a sequence as there is room for; `save` copies its first so many."""
        tokens = tokens[: self._most_tokens]
        if not len(tokens):
            return
        name = _name(tokens)
        for other in self._neighbours(name):
            if other.startswith(name):
                self._kept.move_to_end(other)
                return
            if name.startswith(other):
                self._drop(other)
        while self.tokens + self._size(tokens) > self._most_tokens:
            self.drop_oldest()
        self._kept[name] = Kept(tokens, save(len(tokens)))
        insort(self._in_order, name)
        self.tokens += self._size(tokens)

    def drop_oldest(self) -> bool:
        """Forgets what was used least recently; False where there is nothing."""
        oldest = next(iter(self._kept), None)
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None

    def _neighbours(self, name: bytes) -> list[bytes]:
        place = bisect_left(self._in_order, name)
        return self._in_order[max(place - 1, 0) : place + 1]

    def _drop(self, name: bytes) -> None:
        self.tokens -= self._size(self._kept.pop(name).tokens)
        del self._in_order[bisect_left(self._in_order, name)]

    def _size(self, tokens: Tokens) -> int:
        return pages_for(len(tokens), self._page_tokens) * self._page_tokens


def common_length(one: Tokens, other: Tokens) -> int:
    """Tokens with which both begin."""
    shorter = min(len(one), len(other))
    differing = one[:shorter] != other[:shorter]
    first = int(differing.argmax()) if shorter else 0
    return first if shorter and differing[first] else shorter


def _name(tokens: Tokens) -> bytes:
    """Bytes that are ordered as the tokens are: all of them, so that equal ones are the same."""
    return tokens.astype(np.dtype(">u4")).tobytes()
