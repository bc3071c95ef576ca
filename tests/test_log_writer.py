"""The log reaches its reader in order, and who does not read holds nobody up."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest

from server.log_writer import ROOM, LogWriter


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    """To read from and to write to."""
    reader, writer = os.pipe()
    with os.fdopen(reader, encoding="ascii") as source, os.fdopen(writer, "w") as sink:
        yield source, sink


def fill(sink: TextIO) -> int:
    """Until not a byte more goes into the pipe; how many went."""
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
    source, sink = pipe
    size = fill(sink)
    os.set_blocking(sink.fileno(), blocking)
    writer = LogWriter(sink)
    say(writer, "held up")
    writer.flush()  # which gives up, and waits in the queue itself
    lines = [f"{number}\n" for number in range(ROOM - 1)]
    for line in [*lines, "lost", "lost", "lost"]:
        say(writer, line.strip())
    assert source.read(size) == "x" * size
    assert source.readline() == "held up\n"
    assert [source.readline() for _ in lines] == lines
    assert source.readline() == "3 lines of the log were dropped, since nobody read it\n"
    say(writer, "after")
    assert source.readline() == "after\n"


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
