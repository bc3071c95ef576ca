"""What is allocated in the block lies in memory that is marked for huge pages."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

GLIBC = hasattr(ctypes.CDLL(None), "gnu_get_libc_version")

PROGRAM = """
import threading
from pathlib import Path
import numpy as np
from server.model.heap import huge_pages, share_one_heap

def marked():
    ranges = []
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and ":" not in first:
            here = range(*(int(bound, 16) for bound in first.split("-")))
        if first == "VmFlags:" and "hg" in rest:
            ranges.append(here)
    return ranges

def load():
    with huge_pages(96 << 20):
        sizes = [*[1 << 20] * 48, 40 << 20]
        pieces.extend(np.ones(size, np.uint8) for size in sizes)

pieces = []
share_one_heap()
thread = threading.Thread(target=load)
thread.start()
thread.join()
ranges = marked()
ends = [piece.ctypes.data + piece.nbytes - 1 for piece in pieces]
print(sum(any(end in here for here in ranges) for end in ends))
"""


@pytest.mark.skipif(
    not GLIBC or not Path("/sys/kernel/mm/transparent_hugepage").exists(),
    reason="huge pages are asked for on Linux with glibc only",
)
def test_pieces_of_a_thread_lie_in_memory_that_is_marked() -> None:
    """In a process of its own: what malloc was told holds for the rest of its life. The first piece
    may begin in what the heap had left."""
    command = [sys.executable, "-c", PROGRAM]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == "49\n"


def test_more_than_there_is_costs_nothing_but_speed() -> None:
    program = """
from server.model.heap import huge_pages
with huge_pages(1 << 60):
    print(len(bytearray(1 << 20)))
"""
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == f"{1 << 20}\n"


@pytest.mark.skipif(
    not GLIBC or not Path("/proc/self/smaps_rollup").exists(),
    reason="only glibc keeps what is freed, and only Linux tells of it",
)
def test_what_was_freed_below_what_is_kept_goes_back() -> None:
    program = """
import ctypes
from pathlib import Path
from server.model.heap import give_back

def resident():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Rss:")) >> 10

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
pieces = [libc.malloc(64 << 10) for _ in range(1600)]
for piece in pieces:
    ctypes.memset(piece, 1, 64 << 10)
*freed, kept = pieces
full = resident()
for piece in freed:
    libc.free(piece)
before = resident()
give_back()
print(full - before < 10, before - resident() > 90)
"""
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == "True True\n"
