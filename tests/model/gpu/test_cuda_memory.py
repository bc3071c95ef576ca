# ruff: noqa: N802 the names are CUDA's
"""CUDA's memory, with a stand-in for CUDA's runtime library that copies on the host."""

import ctypes
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest

from server.config import Device, DeviceKind
from server.errors import StartError
from server.model.gpu.cuda_memory import CudaError, CudaMemory, find_library

OUT_OF_MEMORY, ILLEGAL_ADDRESS, STREAM = 2, 700, 77
CUDA = Device(DeviceKind.CUDA, 1)


class FakeLibrary:
    """libcudart, with the host's memory. What is queued on a stream is done when that is waited
    for: a copy that nobody waits for is seen."""

    def __init__(self, capacity: int = 10_000) -> None:
        self.capacity = capacity
        self.held: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.device = 0
        self.fails_with = 0
        self.last_error = 0
        """What CUDA keeps for who asks next."""
        self.pinned: set[int] = set()
        self.events: dict[int, int] = {}
        """How much was queued, ever, before each was recorded."""
        self._queue: list[Callable[[], object]] = []
        self._done = 0

    def cudaSetDevice(self, index: int) -> int:
        self.device = index
        return 0

    def cudaStreamCreateWithFlags(self, stream: Any, flags: int) -> int:
        assert flags == 1
        stream._obj.value = STREAM
        return 0

    def cudaMalloc(self, address: Any, nbytes: int) -> int:
        if nbytes > self.capacity:
            self.last_error = OUT_OF_MEMORY
            return OUT_OF_MEMORY
        block = ctypes.create_string_buffer(b"\xee" * nbytes, nbytes)
        address._obj.value = ctypes.addressof(block)
        self.held[ctypes.addressof(block)] = block
        self.capacity -= nbytes
        return 0

    def cudaFree(self, address: int) -> int:
        self.capacity += len(self.held.pop(address))
        return 0

    def cudaMemGetInfo(self, free: Any, total: Any) -> int:
        free._obj.value, total._obj.value = self.capacity, 10_000
        return 0

    def cudaMemsetAsync(
        self, address: ctypes.c_void_p, value: int, nbytes: int, stream: ctypes.c_void_p
    ) -> int:
        return self._later(stream, lambda: ctypes.memset(address, value, nbytes))

    def cudaMemcpyAsync(
        self, destination: int, source: int, nbytes: int, kind: int, stream: ctypes.c_void_p
    ) -> int:
        assert kind in (1, 2, 3)
        return self._later(stream, lambda: ctypes.memmove(destination, source, nbytes))

    def cudaMemcpy2DAsync(
        self,
        destination: int,
        to_pitch: int,
        source: int,
        from_pitch: int,
        width: int,
        height: int,
        kind: int,
        stream: ctypes.c_void_p,
    ) -> int:
        assert kind in (1, 3)
        assert width <= min(to_pitch, from_pitch)
        for row in range(height):
            one = destination + row * to_pitch
            other = source + row * from_pitch
            self._later(stream, partial(ctypes.memmove, one, other, width))
        return 0

    def cudaHostAlloc(self, address: Any, nbytes: int, flags: int) -> int:
        assert flags == 0
        self.cudaMalloc(address, nbytes)
        self.pinned.add(address._obj.value)
        return 0

    def cudaFreeHost(self, address: ctypes.c_void_p) -> int:
        self.pinned.remove(int(address.value or 0))
        return self.cudaFree(int(address.value or 0))

    def cudaEventCreateWithFlags(self, event: Any, flags: int) -> int:
        assert flags == 2
        event._obj.value = 1 + len(self.events)
        self.events[event._obj.value] = 0
        return 0

    def cudaEventDestroy(self, event: ctypes.c_void_p) -> int:
        del self.events[int(event.value or 0)]
        return 0

    def cudaEventRecord(self, event: ctypes.c_void_p, stream: ctypes.c_void_p) -> int:
        assert stream.value == STREAM
        self.events[int(event.value or 0)] = self._done + len(self._queue)
        return 0

    def cudaEventSynchronize(self, event: ctypes.c_void_p) -> int:
        while self._done < self.events[int(event.value or 0)]:
            self._next()
        return self.fails_with

    def cudaStreamSynchronize(self, stream: ctypes.c_void_p) -> int:
        while self._queue:
            self._next()
        return self.fails_with

    def _next(self) -> None:
        self._done += 1
        self._queue.pop(0)()

    def cudaGetLastError(self) -> int:
        last, self.last_error = self.last_error, 0
        return last

    def cudaGetErrorString(self, error: int) -> bytes:
        return {OUT_OF_MEMORY: b"out of memory"}.get(error, b"an illegal address")

    @property
    def queued(self) -> int:
        return len(self._queue)

    def _later(self, stream: ctypes.c_void_p, copy: Callable[[], object]) -> int:
        assert stream.value == STREAM
        assert self.device == CUDA.index
        self._queue.append(copy)
        return 0


def test_what_was_written_is_read() -> None:
    memory = CudaMemory(CUDA, FakeLibrary())
    block = memory.reserve(64)
    numbers = np.arange(4, dtype=np.int64)
    memory.write(block.address + 16, numbers)
    read = np.full(8, -1, np.int64)
    memory.read(block.address, read)
    assert read.tolist() == [0, 0, 0, 1, 2, 3, 0, 0]


def test_elements_are_written_a_pitch_apart() -> None:
    memory = CudaMemory(CUDA, FakeLibrary())
    block = memory.reserve(3 * 32)
    numbers = np.array([7, 8, 9])
    memory.write(block.address, numbers, pitch=32)
    read = np.empty((3, 4), np.int64)
    memory.read(block.address, read)
    assert read.tolist() == [[7, 0, 0, 0], [8, 0, 0, 0], [9, 0, 0, 0]]


def test_rows_are_copied_from_one_pitch_to_another() -> None:
    memory = CudaMemory(CUDA, FakeLibrary())
    one, other = memory.reserve(48), memory.reserve(64)
    numbers = np.arange(6, dtype=np.int64)
    memory.write(one.address, numbers)
    memory.copy(one.address, other.address, rows=2, row_bytes=16, pitches=(24, 32))
    read = np.empty((2, 4), np.int64)
    memory.read(other.address, read)
    assert read.tolist() == [[0, 1, 0, 0], [3, 4, 0, 0]]


def test_rows_without_gaps_are_one_copy() -> None:
    library = FakeLibrary()
    memory = CudaMemory(CUDA, library)
    one, other = memory.reserve(48), memory.reserve(48)
    memory.settle()
    numbers = np.arange(6, dtype=np.int64)
    memory.write(one.address, numbers)
    memory.copy(one.address, other.address, rows=3, row_bytes=16, pitches=(16, 16))
    assert library.queued == 2
    read = np.empty(6, np.int64)
    memory.read(other.address, read)
    assert read.tolist() == list(range(6))


def test_each_thread_is_given_the_device() -> None:
    library = FakeLibrary()
    memory = CudaMemory(CUDA, library)
    library.device = 0  # as it is in a thread of its own
    with ThreadPoolExecutor(1) as pool:
        pool.submit(memory.reserve, 8).result()
    assert library.device == CUDA.index


def test_what_lands_is_there_when_it_was_waited_for() -> None:
    """And nobody waits for what was queued behind it."""
    library = FakeLibrary()
    memory = CudaMemory(CUDA, library)
    block, landing = memory.reserve(16), memory.landing(16)
    some, others = np.array([3, 4]), np.array([5, 6])
    memory.write(block.address, some)
    landing.fetch(block.address)
    memory.write(block.address, others)
    assert landing.array.tolist() == [0] * 16
    landing.wait()
    assert landing.array.view(np.int64).tolist() == [3, 4]
    assert library.queued == 1
    assert len(library.pinned) == len(library.events) == 1
    del landing
    gc.collect()
    assert not library.pinned
    assert not library.events


def test_pinned_memory_is_zeros_and_lives_as_long_as_an_array_of_it() -> None:
    library = FakeLibrary()
    memory = CudaMemory(CUDA, library)
    part = memory.pinned(32).view(np.int64)[2:]
    gc.collect()
    assert part.tolist() == [0, 0]
    assert {part.ctypes.data - 16} == library.pinned
    del part
    gc.collect()
    assert not library.pinned


def test_memory_goes_back_with_what_holds_it() -> None:
    memory = CudaMemory(CUDA, FakeLibrary())
    block = memory.reserve(1000)
    assert memory.free_bytes == 9000
    del block
    gc.collect()
    assert memory.free_bytes == 10_000


def test_no_room_is_a_memory_error_and_anything_else_a_cuda_error() -> None:
    library = FakeLibrary()
    memory = CudaMemory(CUDA, library)
    with pytest.raises(MemoryError, match="cudaMalloc on cuda:1: out of memory"):
        memory.reserve(10_001)
    assert library.last_error == 0
    library.fails_with = ILLEGAL_ADDRESS
    with pytest.raises(CudaError, match="cudaStreamSynchronize on cuda:1: an illegal address"):
        memory.settle()


def test_a_library_that_is_not_there_is_named() -> None:
    with pytest.raises(StartError, match="libcudart-not-there"):
        find_library(("libcudart-not-there.so.1",))
