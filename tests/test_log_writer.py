"""The log reaches its reader in order, and a reader that does not read blocks nobody."""

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest

from server.log_writer import ROOM, LogWriter

LOSS = re.compile("([0-9]+) lines of the log were dropped, since nobody read it")


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    """A pipe's ends: one to read from, one to write to."""
    reader, writer = os.pipe()
    with os.fdopen(reader, encoding="ascii") as source, os.fdopen(writer, "w") as sink:
        yield source, sink


def fill(sink: TextIO) -> int:
    """Fill the pipe until it takes no more; return how many bytes it took."""
    os.set_blocking(sink.fileno(), False)
    size = 0
    with suppress(BlockingIOError):
        while True:
            size += os.write(sink.fileno(), b"x" * 4096)
    os.set_blocking(sink.fileno(), True)
    return size


def say(writer: LogWriter, text: str) -> None:
    writer.handle(logging.makeLogRecord({"msg": text}))


def test_lines_come_in_order(pipe: tuple[TextIO, TextIO]) -> None:
    source, sink = pipe
    writer = LogWriter(sink)
    for number in range(100):
        say(writer, str(number))
    writer.flush()
    assert [source.readline() for _ in range(100)] == [f"{number}\n" for number in range(100)]


@pytest.mark.parametrize("blocking", [True, False])
def test_what_is_dropped_is_counted_in_its_place(
    pipe: tuple[TextIO, TextIO], blocking: bool
) -> None:
    """Every record is there as a line, or counted where the line would be."""
    source, sink = pipe
    size = fill(sink)
    os.set_blocking(sink.fileno(), blocking)
    writer = LogWriter(sink)
    for number in range(ROOM + 10):  # of which the thread may have taken the first
        say(writer, str(number))
    assert source.read(size) == "x" * size
    accounted, lost = next_line(source, 0)
    while not lost:
        accounted, lost = next_line(source, accounted)
    assert accounted == ROOM + 10
    say(writer, "after")
    assert source.readline() == "after\n"


def test_a_slow_reader_reads_lines_and_not_mostly_how_many_were_lost(
    pipe: tuple[TextIO, TextIO],
) -> None:
    """Twice as much is logged as is read. Every record is there as a line, or counted."""
    source, sink = pipe
    size = fill(sink)
    writer = LogWriter(sink)
    logged = 0
    for _ in range(ROOM + 2):
        say(writer, str(logged))
        logged += 1
    assert source.read(size) == "x" * size
    accounted, losses = 0, 0
    while losses < 3:
        accounted, lost = next_line(source, accounted)
        losses += lost
        for _ in range(2):
            say(writer, str(logged))
            logged += 1
    assert accounted >= 3 * ROOM // 2
    while accounted < logged:
        accounted, _ = next_line(source, accounted)


def next_line(source: TextIO, accounted: int) -> tuple[int, bool]:
    """Read one more line: how many records are accounted for now, and whether it reports a loss."""
    line = source.readline().strip()
    if lost := LOSS.fullmatch(line):
        return accounted + int(lost[1]), True
    assert int(line) == accounted
    return accounted + 1, False


def test_what_the_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w", encoding="ascii") as sink:
        writer = LogWriter(sink)
        say(writer, "\N{LATIN SMALL LETTER E WITH ACUTE} \udcff")
        writer.flush()
    assert path.read_text() == "\\xe9 \\udcff\n"


def test_a_stream_that_refuses_lines_is_written_to_again(
    pipe: tuple[TextIO, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, sink = pipe
    writer = LogWriter(sink)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        say(writer, "lost")
        writer.flush()
    say(writer, "written")
    assert source.readline() == "written\n"


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_record_that_cannot_be_formatted_is_no_fault_of_its_caller(
    pipe: tuple[TextIO, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, sink = pipe
    monkeypatch.setattr(logging, "raiseExceptions", False)  # what it would say to stderr
    writer = LogWriter(sink)
    writer.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
    say(writer, "after")
    assert source.readline() == "after\n"
