"""A mapped file's pages leave memory, and their content stays."""

import mmap
from pathlib import Path

import pytest

from server.model.mapped_file import forget_pages

PAGES = 64
CONTENT = bytes(range(256)) * (PAGES * mmap.PAGESIZE // 256)

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="mappings are listed on Linux only"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights with spaces.data"
    path.write_bytes(CONTENT)
    return path


def mapped(file: Path) -> mmap.mmap:
    """As the runtime does it: writable, and nobody's but this process's."""
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)


def resident(file: Path) -> int:
    """Bytes of the file's mappings that are in memory."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split(maxsplit=5)
        if not name.endswith(":"):
            ours = rest[-1:] == [str(file)]
        elif ours and name == "Rss:":
            total += int(rest[0]) * 1024
    return total


def test_pages_that_were_read_leave_memory_and_are_read_again(file: Path) -> None:
    pages = mapped(file)
    assert pages[:] == CONTENT
    assert resident(file) == len(CONTENT)
    forget_pages(file)
    assert resident(file) == 0
    assert pages[:] == CONTENT


def test_what_somebody_wrote_stays(file: Path) -> None:
    pages = mapped(file)
    pages[5:9] = b"here"
    forget_pages(file)
    assert pages[:] == CONTENT[:5] + b"here" + CONTENT[9:]


def test_other_files_are_left_alone(file: Path, tmp_path: Path) -> None:
    pages = mapped(file)
    assert pages[:] == CONTENT
    forget_pages(tmp_path / "weights with spaces.dat")
    assert resident(file) == len(CONTENT)
