"""Reference counts of pages, and which pages are free. Pure: numbers only."""

from collections.abc import Iterable


class PagePool:
    """Pages numbered from 0. One without references is free."""

    def __init__(self, pages: int) -> None:
        self._references = [0] * pages
        self._free = list(range(pages))[::-1]

    @property
    def free(self) -> int:
        """Number of free pages."""
        return len(self._free)

    def take(self) -> int:
        """Takes a free page, with one reference. Raises `MemoryError`."""
        if not self._free:
            raise MemoryError(f"all {len(self._references)} pages of keys and values are taken")
        page = self._free.pop()
        self._references[page] = 1
        return page

    def retain(self, pages: Iterable[int]) -> None:
        """Adds a reference to each of these pages, none of which is free."""
        for page in pages:
            self._references[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """Drops a reference to each of these pages."""
        for page in pages:
            self._references[page] -= 1
            if not self._references[page]:
                self._free.append(page)

    def shared(self, page: int) -> bool:
        """Whether a page has several references."""
        return self._references[page] > 1
