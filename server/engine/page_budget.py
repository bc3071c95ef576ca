"""Whether there are pages for one more sequence, whatever those that run will still need.

Knows sequences and how many pages are free; does not know who holds which.
"""

from collections.abc import Container, Mapping

from server.engine.decoder import Pages
from server.engine.sequence import Sequence
from server.model.kv_shape import pages_for


class PageBudget:
    """Sees the sequences of the engine. A sequence begins only where it can also end: none is ever
    cut short for want of a page, and none waits in the middle of its answer."""

    def __init__(self, pages: Pages, sequences: Mapping[int, Sequence]) -> None:
        self._pages = pages
        self._sequences = sequences

    def for_one(
        self, key: int, shared: int, beginning: Container[int], *, without_copies: bool = False
    ) -> bool:
        """Whether a sequence, of whose tokens others hold the first `shared`, fits beside those
        that have begun and those that are `beginning`; or would, if there were no copies of ended
        ones."""
        free = self._pages.unheld_pages if without_copies else self._pages.free_pages
        for other in self._sequences.values():
            if other.read or other.key in beginning:
                free -= self._spanned(other.most_tokens) - self._spanned(other.held)
        whole = shared // self._pages.page_tokens
        return self._spanned(self._sequences[key].most_tokens) - whole <= free

    def _spanned(self, tokens: int) -> int:
        return pages_for(tokens, self._pages.page_tokens)
