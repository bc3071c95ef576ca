"""Keys and values on a device: pages that slots take as they grow, and share.

Knows which pages a slot holds, in order; does not know what runs on them. ONNX Runtime calls pages
blocks, and the pages of a slot its row of the block table.
"""

import weakref
from collections.abc import Sequence

from server.model.gpu.memory import Block, DeviceMemory
from server.model.gpu.page_pool import PagePool
from server.model.kv_shape import KvShape, pages_for


class PageBuffer:
    """Keys or values of one layer, [pages, page_tokens, heads, head_dim]."""

    def __init__(self, memory: DeviceMemory, shape: KvShape, pages: int, page_tokens: int) -> None:
        """Raises `MemoryError`."""
        self.shape = shape
        self._page_bytes = page_tokens * shape.token_bytes
        self._memory = memory
        self._block: Block = memory.reserve(pages * self._page_bytes)

    @property
    def address(self) -> int:
        """Where the first page begins; the others follow without a gap."""
        return self._block.address

    def copy(self, source: int, destination: int, length: int) -> None:
        """Copies the first `length` tokens of one page to another."""
        size = length * self.shape.token_bytes
        addresses = (self.address + page * self._page_bytes for page in (source, destination))
        self._memory.copy(*addresses, rows=1, row_bytes=size, pitches=(size, size))


def token_bytes(shapes: Sequence[KvShape]) -> int:
    """Returns the bytes of one token of one sequence, in all layers."""
    return sum(shape.token_bytes for shape in shapes)


class PagedKv:
    """`KvOwner` of pages: the buffers of all layers, and the pages of each slot.

    Slots share the whole pages of a common prefix; of a page that is partly full, each has its own
    copy. A page that is shared nevertheless is copied before it is written to.
    """

    def __init__(
        self,
        memory: DeviceMemory,
        shapes: Sequence[KvShape],
        *,
        slots: int,
        slot_pages: int,
        page_tokens: int,
        pages: int,
    ) -> None:
        """There are `pages` in all, of which a slot can have `slot_pages`. Raises `MemoryError`."""
        self.slots = slots
        self.page_tokens = page_tokens
        self.slot_pages = slot_pages
        self.pages = pages + 1
        """With the spare one."""
        self.spare = pages
        """A page that no slot has: nobody reads what is written there."""
        self.tables: list[list[int]] = [[] for _ in range(slots)]
        """The pages of each slot: token n lies in the one at index n // page_tokens."""
        self.token_bytes = token_bytes(shapes)
        self.nbytes = self.pages * page_tokens * self.token_bytes
        self.buffers = [PageBuffer(memory, shape, self.pages, page_tokens) for shape in shapes]
        self._pool = PagePool(pages)

    @property
    def free_pages(self) -> int:
        """Pages that no slot holds, and no saved copy."""
        return self._pool.free

    @property
    def unheld_pages(self) -> int:
        """Pages that no slot holds; saved copies may."""
        return self.spare - len(set().union(*self.tables))

    def open(self, slot: int, past: int, total: int) -> None:
        """Makes a slot's pages for its tokens from `past` to `total` writable: takes those that are
        missing, and copies shared ones. Raises `MemoryError`."""
        table, size = self.tables[slot], self.page_tokens
        for index in range(past // size, self._spanned(total)):
            if index == len(table):
                table.append(self._pool.take())
            elif self._pool.shared(table[index]):
                self._unshare(table, index, max(past - index * size, 0))

    def copy(self, source: int, destination: int, length: int) -> None:
        """See `Decoder`. Whole pages are shared."""
        self.give(self.tables[source], destination, length)

    def move(self, source: int, destination: int, length: int) -> None:
        """See `Decoder`. Nothing is copied."""
        self.release(destination)
        self.tables[destination], self.tables[source] = self.tables[source], []
        self._pool.release(self.tables[destination][self._spanned(length) :])
        del self.tables[destination][self._spanned(length) :]

    def save(self, slot: int, length: int) -> "SavedPages":
        """See `Decoder`. Nothing is copied: it retains the pages of these tokens."""
        return SavedPages(self, self._pool, self.tables[slot][: self._spanned(length)])

    def release(self, slot: int) -> None:
        """See `Decoder`. Frees the slot's pages, but for those that others hold."""
        self._pool.release(self.tables[slot])
        self.tables[slot] = []

    def give(self, table: Sequence[int], slot: int, length: int) -> None:
        """Gives a free slot the first `length` tokens of these pages. Raises `MemoryError`."""
        self.release(slot)
        own = self.tables[slot] = list(table[: self._spanned(length)])
        self._pool.retain(own)
        if rest := length % self.page_tokens:
            self._unshare(own, len(own) - 1, rest)

    def _spanned(self, tokens: int) -> int:
        """Returns how many pages `tokens` tokens take."""
        return pages_for(tokens, self.page_tokens)

    def _unshare(self, table: list[int], index: int, length: int) -> None:
        """Replaces a page of a table by a copy of its own, of the first `length` tokens."""
        page = self._pool.take()
        if length:
            for buffer in self.buffers:
                buffer.copy(table[index], page, length)
        self._pool.release([table[index]])
        table[index] = page


class SavedPages:
    """Pages that are retained as long as this object lives."""

    def __init__(self, kv: PagedKv, pool: PagePool, table: Sequence[int]) -> None:
        self._kv = kv
        self.table = tuple(table)
        pool.retain(self.table)
        weakref.finalize(self, pool.release, self.table).atexit = False

    def load(self, slot: int, length: int) -> None:
        """See `SavedKv` of `server.engine.decoder`."""
        self._kv.give(self.table, slot, length)
