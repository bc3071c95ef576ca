"""Whether enough pages are free for one more sequence, after reserving what running sequences may
still need.

Knows sequences and how many pages are free; does not know who holds which.
"""

from collections.abc import Container, Mapping

from server.engine.decoder import Pages
from server.engine.sequence import Sequence
from server.model.kv_shape import pages_for


class PageBudget:
    """Reads the engine's mapping of sequences. A sequence begins only if it can also end: none is
    cut short for want of a page, and none waits in the middle of its answer."""

    def __init__(self, pages: Pages, sequences: Mapping[int, Sequence]) -> None:
        self._pages = pages
        self._sequences = sequences

    def fits(
        self, key: int, shared: int, beginning: Container[int], *, without_copies: bool = False
    ) -> bool:
        """Whether sequence `key` fits beside those that have begun and those in `beginning`. Its
        first `shared` tokens are already held by others. With `without_copies`, pages that only
        copies of ended sequences hold count as free."""
        free = self._pages.unheld_pages if without_copies else self._pages.free_pages
        for other in self._sequences.values():
            if other.read or other.key in beginning:
                free -= self._page_count(other.max_total_tokens) - self._page_count(other.held)
        whole = shared // self._pages.page_tokens
        return self._page_count(self._sequences[key].max_total_tokens) - whole <= free

    def _page_count(self, tokens: int) -> int:
        return pages_for(tokens, self._pages.page_tokens)
