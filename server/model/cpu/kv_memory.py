"""Memory for keys and values: reserved as address space, paid for when touched.

Knows pages and arrays; does not know what runs on them.
"""

import contextlib
import mmap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.model.kv_shape import KvShape

IDLE_BYTES = 96 * 2**20
"""Bytes that all slots together keep of ended sequences for the next ones, so that a short request
pays for no page: giving back 226 tokens of the default model and touching as many again took 5 ms,
for which every other stream waited."""


def reserve(nbytes: int) -> mmap.mmap:
    """Reserves memory that costs nothing until touched, and goes back with its last reference."""
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _advise(pages: mmap.mmap, advice: str) -> None:
    """Advises the system on the size of pages; one that has only one size ignores it."""
    if hasattr(mmap, advice):
        with contextlib.suppress(OSError):
            pages.madvise(getattr(mmap, advice))


class KvBuffer:
    """Keys or values of one layer, array [slots, heads, capacity, head_dim].

    Anonymous memory rather than `np.zeros`: NumPy asks for huge pages, which make a whole head
    resident at its first position, and none of it can be given back.
    """

    def __init__(self, shape: KvShape, slots: int, capacity: int) -> None:
        self.shape = shape
        self._slot_bytes = capacity * shape.token_bytes
        self.nbytes = slots * self._slot_bytes
        self._pages = reserve(self.nbytes)
        _advise(self._pages, "MADV_NOHUGEPAGE")
        extent = (slots, shape.heads, capacity, shape.head_dim)
        self.array: NDArray[Any] = np.ndarray(extent, shape.dtype, self._pages)

    def copy(self, source: int, destination: int, length: int) -> None:
        """Copies the first `length` positions of one slot to another."""
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

    It has pages of its own, which go back to the system with it: freed arrays would add up in the
    C library's heap. The pages are huge, since all are written at once: four times as fast.
    """

    def __init__(self, buffers: list[KvBuffer], slot: int, length: int) -> None:
        self.nbytes = length * sum(buffer.shape.token_bytes for buffer in buffers)
        self._buffers = buffers
        self._length = length
        self._pages = reserve(self.nbytes)
        _advise(self._pages, "MADV_HUGEPAGE")
        for buffer, saved in self._parts():
            saved[:] = buffer.array[slot, :, :length]

    def load(self, slot: int, length: int) -> None:
        """See `SavedKv` of `server.engine.decoder`."""
        for buffer, saved in self._parts():
            buffer.array[slot, :, :length] = saved[:, :length]

    def _parts(self) -> Iterator[tuple[KvBuffer, NDArray[Any]]]:
        """Yields the saved part of each buffer, [heads, length, head_dim]. The arrays are made when
        needed: those of 30 layers take 35 KB, and there may be hundreds of copies."""
        start = 0
        for buffer in self._buffers:
            _, heads, _, head_dim = buffer.array.shape
            shape = (heads, self._length, head_dim)
            saved = np.ndarray(shape, buffer.array.dtype, self._pages, start)
            yield buffer, saved
            start += saved.nbytes


class KvMemory:
    """The buffers of all layers. For `copy` and `save`: see `server.engine.decoder.Decoder`."""

    def __init__(
        self,
        shapes: Iterable[KvShape],
        *,
        slots: int,
        capacity: int,
        idle_bytes: int = IDLE_BYTES,
    ) -> None:
        """Released slots keep at most `idle_bytes` together."""
        self.buffers = [KvBuffer(shape, slots, capacity) for shape in shapes]
        self._max_kept = idle_bytes // self.token_bytes
        self._kept = [0] * slots
        """Tokens whose pages ended sequences left in each slot; a shorter one does not lower it."""

    @property
    def nbytes(self) -> int:
        """Bytes that this can grow to."""
        return sum(buffer.nbytes for buffer in self.buffers)

    @property
    def token_bytes(self) -> int:
        """Bytes of one token of one sequence."""
        return sum(buffer.shape.token_bytes for buffer in self.buffers)

    def copy(self, source: int, destination: int, length: int) -> None:
        """See `Decoder`."""
        for buffer in self.buffers:
            buffer.copy(source, destination, length)

    def save(self, slot: int, length: int) -> SavedKv:
        """See `Decoder`."""
        return SavedKv(self.buffers, slot, length)

    def release(self, slot: int, length: int) -> None:
        """Frees a slot that `length` tokens were written to. Their pages stay for the slot's next
        sequence, or all of the slot's go back to the system where too many would be kept."""
        kept = max(self._kept[slot], length)
        if sum(self._kept) - self._kept[slot] + kept <= self._max_kept:
            self._kept[slot] = kept
            return
        self._give_back(slot)

    def rest(self) -> None:
        """Returns what free slots keep to the system. Called when all are free, and may stay so."""
        for slot, kept in enumerate(self._kept):
            if kept:
                self._give_back(slot)

    def _give_back(self, slot: int) -> None:
        self._kept[slot] = 0
        for buffer in self.buffers:
            buffer.release(slot)
