"""Pages of a mapped file go back to the system. Knows Linux's list of mappings, no runtime."""

import ctypes
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

_MAPPINGS = Path("/proc/self/smaps")
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) .{4} [0-9a-f]+ \S+ \d+ +(.*)$")
_WRITTEN = re.compile(r"^Anonymous: +[1-9]")

_libc = ctypes.CDLL(None)
_ABLE = hasattr(mmap, "MADV_DONTNEED") and _MAPPINGS.exists()


def forget_pages(file: Path) -> None:
    """What was read of a file that is mapped leaves memory; whoever reads it again gets it again.

    Where the system will not have it, nothing but memory is lost.
    """
    if not _ABLE:
        return
    for start, stop in _untouched_mappings(str(file.resolve())):
        _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)


def _untouched_mappings(path: str) -> Iterator[tuple[int, int]]:
    """Addresses at which a file is mapped and holds what the file does: nobody wrote there."""
    found: tuple[int, int] | None = None
    for line in _MAPPINGS.read_text().splitlines():
        if mapping := _MAPPING.match(line):
            if found:
                yield found
            start, stop, name = mapping.groups()
            found = (int(start, 16), int(stop, 16)) if name == path else None
        elif _WRITTEN.match(line):
            found = None
    if found:
        yield found
