"""Memory for keys and values: reserved as address space, paid for when touched.

Knows pages and arrays; does not know what runs on them.
"""

import contextlib
import mmap
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from server.model.kv_shape import KvShape

IDLE_BYTES = 96 * 2**20
"""What slots keep of ended sequences for the next ones, all slots together, so that a short request
pays for no page: giving 226 tokens of the default model back and touching as many anew took 5 ms,
in the gap of every stream beside."""


def reserve(nbytes: int) -> mmap.mmap:
    """Memory that costs nothing until it is touched, and goes back when it is no longer used."""
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _advise(pages: mmap.mmap, advice: str) -> None:
    """About the size of pages; a system that has one size only does without it."""
    if hasattr(mmap, advice):
        with contextlib.suppress(OSError):
            pages.madvise(getattr(mmap, advice))


class KvBuffer:
    """Keys or values of one layer, array [slots, heads, capacity, head_dim].

    Anonymous memory rather than `np.zeros`: NumPy asks for huge pages, which makes a whole head
    resident at its first position, and nothing of it can be given back.
    """

    def __init__(self, shape: KvShape, slots: int, capacity: int) -> None:
        self.shape = shape
        extent = (slots, shape.heads, capacity, shape.head_dim)
        self.nbytes = int(np.prod(extent)) * shape.dtype.itemsize
        self._pages = reserve(self.nbytes)
        _advise(self._pages, "MADV_NOHUGEPAGE")
        self.array: NDArray[np.floating] = np.frombuffer(self._pages, dtype=shape.dtype).reshape(
            extent
        )
        self._slot_bytes = self.nbytes // slots
        self.token_bytes = self._slot_bytes // capacity

    def copy(self, source: int, destination: int, length: int) -> None:
        """The first `length` positions of one slot to another."""
        self.array[destination, :, :length] = self.array[source, :, :length]

    def release(self, slot: int) -> None:
        """Gives the slot's pages back to the system; a page shared with a neighbour stays."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        page = mmap.PAGESIZE
        start = -(-slot * self._slot_bytes // page) * page
        end = (slot + 1) * self._slot_bytes // page * page
        if end > start:
            self._pages.madvise(mmap.MADV_DONTNEED, start, end - start)


class SavedKv:
    """A copy of the first `length` tokens of a slot, for any slot of the same buffers.

    In pages of its own, which go back to the system with it: what the C library's heap keeps of
    arrays that were freed would add up. Huge ones, since all of them are written at once: four
    times as fast.
    """

    def __init__(self, buffers: list[KvBuffer], slot: int, length: int) -> None:
        self.nbytes = length * sum(buffer.token_bytes for buffer in buffers)
        self._buffers = buffers
        self._length = length
        self._pages = reserve(self.nbytes)
        _advise(self._pages, "MADV_HUGEPAGE")
        for buffer, held in self._parts():
            held[:] = buffer.array[slot, :, :length]

    def load(self, slot: int, length: int) -> None:
        """Puts the first `length` tokens into a slot."""
        for buffer, held in self._parts():
            buffer.array[slot, :, :length] = held[:, :length]

    def _parts(self) -> Iterator[tuple[KvBuffer, NDArray[np.floating]]]:
        """What is held of each buffer, [heads, length, head_dim]. Made when it is needed: the
        arrays of 30 layers take 35 KB, and there may be hundreds of copies."""
        start = 0
        for buffer in self._buffers:
            _, heads, _, head_dim = buffer.array.shape
            shape = (heads, self._length, head_dim)
            held = np.ndarray(shape, buffer.array.dtype, self._pages, start)
            yield buffer, held
            start += held.nbytes


class KvMemory:
    """The buffers of all layers. Slots are numbered from 0."""

    def __init__(
        self,
        shapes: Iterable[KvShape],
        *,
        slots: int,
        capacity: int,
        idle_bytes: int = IDLE_BYTES,
    ) -> None:
        """Released slots keep `idle_bytes` at most."""
        self.buffers = [KvBuffer(shape, slots, capacity) for shape in shapes]
        self._most_kept = idle_bytes // self.token_bytes
        self._kept = [0] * slots
        """Tokens whose pages ended sequences left in each slot; its next one does not lower it."""

    @property
    def nbytes(self) -> int:
        """Bytes that this can grow to."""
        return sum(buffer.nbytes for buffer in self.buffers)

    @property
    def token_bytes(self) -> int:
        """Bytes of one token of one sequence."""
        return sum(buffer.token_bytes for buffer in self.buffers)

    def copy(self, source: int, destination: int, length: int) -> None:
        """Gives `length` positions to another slot, too."""
        for buffer in self.buffers:
            buffer.copy(source, destination, length)

    def save(self, slot: int, length: int) -> SavedKv:
        return SavedKv(self.buffers, slot, length)

    def move(self, source: int, destination: int, length: int) -> None:
        """Takes `length` positions to another slot and releases the one they came from."""
        self.copy(source, destination, length)
        self.release(source, length)

    def release(self, slot: int, length: int) -> None:
        """The slot's `length` tokens are no longer needed. Their pages stay for others, or go back
        to the system where that would be too many."""
        kept = max(self._kept[slot], length)
        if sum(self._kept) - self._kept[slot] + kept <= self._most_kept:
            self._kept[slot] = kept
            return
        self._give_back(slot)

    def rest(self) -> None:
        """All slots are free, and it may last: what they keep goes back to the system."""
        for slot, kept in enumerate(self._kept):
            if kept:
                self._give_back(slot)

    def _give_back(self, slot: int) -> None:
        self._kept[slot] = 0
        for buffer in self.buffers:
            buffer.release(slot)
