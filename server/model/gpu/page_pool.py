"""Which pages are free, and how many hold on to each of the others. Pure: numbers only."""

from collections.abc import Iterable


class PagePool:
    """Pages numbered from 0. One that nobody holds on to is free."""

    def __init__(self, pages: int) -> None:
        self._holders = [0] * pages
        self._free = list(range(pages))[::-1]

    @property
    def free(self) -> int:
        """How many are."""
        return len(self._free)

    def take(self) -> int:
        """A free page, for one holder. Raises `MemoryError`."""
        if not self._free:
            raise MemoryError(f"all {len(self._holders)} pages of keys and values are taken")
        page = self._free.pop()
        self._holders[page] = 1
        return page

    def retain(self, pages: Iterable[int]) -> None:
        """One more holds on to each of these, which others hold."""
        for page in pages:
            self._holders[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """One holder less for each."""
        for page in pages:
            self._holders[page] -= 1
            if not self._holders[page]:
                self._free.append(page)

    def shared(self, page: int) -> bool:
        """Whether several hold on to it."""
        return self._holders[page] > 1
