"""Loads weights contiguously into huge pages, on Linux with glibc.

A step reads every weight once. In pages of 4 KiB that takes tens of thousands of address
translations, twice as deep in a virtual machine, where huge pages make a small model decode up to
7 % faster. Memory must be marked for huge pages before it is touched, so glibc has to allocate all
of it from the one heap that can be marked in advance.

glibc's own `glibc.malloc.hugetlb` is rejected: it is read only from the environment of a program
that starts, and leaves out allocations below 2 MiB, as most matrices of a small model are.

Knows malloc; does not know a runtime.
"""

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt(3), and malloc.h for the numbers.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8
_LARGEST_MMAP_THRESHOLD = 32 << 20
"""Bytes; as high as glibc raises it by itself when large blocks come and go."""
_MMAP_MAX_DEFAULT, _TOP_PAD_DEFAULT = 65536, 128 << 10
_LARGEST_TOP_PAD = 2**31 - mmap.PAGESIZE
"""mallopt takes an int."""

_libc = ctypes.CDLL(None)
_ABLE = hasattr(_libc, "gnu_get_libc_version") and hasattr(mmap, "MADV_HUGEPAGE")
if _ABLE:
    _libc.malloc.restype = ctypes.c_void_p
    _libc.malloc.argtypes = [ctypes.c_size_t]
    _libc.free.argtypes = [ctypes.c_void_p]
    _libc.malloc_trim.argtypes = [ctypes.c_size_t]
    _libc.sbrk.restype = ctypes.c_void_p
    _libc.sbrk.argtypes = [ctypes.c_ssize_t]
    _libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def share_one_heap() -> None:
    """Makes threads that start later allocate from the main thread's heap."""
    if _ABLE:
        _libc.mallopt(_ARENA_MAX, 1)


@contextmanager
def huge_pages(size: int) -> Iterator[None]:
    """Allocates the next `size` bytes within the block contiguously in huge pages, up to 2 GiB.

    Where the system refuses, nothing but speed is lost.
    """
    if not _ABLE:
        yield
        return
    _libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    _libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
    _libc.mallopt(_MMAP_MAX, 0)
    _extend(size)
    try:
        yield
    finally:
        _libc.mallopt(_MMAP_MAX, _MMAP_MAX_DEFAULT)
        _libc.mallopt(_TOP_PAD, _TOP_PAD_DEFAULT)


def give_back() -> None:
    """Returns memory that was freed in small blocks to the system."""
    if _ABLE:
        _libc.malloc_trim(0)


def _extend(size: int) -> None:
    """Grows the heap by `size` bytes, marked for huge pages before they are touched."""
    _libc.mallopt(_TOP_PAD, min(size, _LARGEST_TOP_PAD))
    begin = _libc.sbrk(0)
    # The heap hardly has a free block of this size, so it grows, and by the padding, too.
    _libc.free(_libc.malloc(_LARGEST_MMAP_THRESHOLD - mmap.PAGESIZE))
    start = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
    _libc.madvise(start, _libc.sbrk(0) - start, mmap.MADV_HUGEPAGE)
