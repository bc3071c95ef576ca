"""How every console program ends: quietly where nobody reads, and in one line where it must."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from server.errors import StartError
from server.program import program

BENCH = ("-c", "from model_tools.bench.cli import main; main()")


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe whose reader has left, to write to."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("buffering", ["", "1"])
def test_where_nobody_reads_a_program_ends_as_by_sigpipe(unread: int, buffering: str) -> None:
    ended = run("-m", "server", "doctor", output=unread, buffering=buffering)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize(
    "arguments", [("-m", "server"), ("-m", "model_tools"), BENCH, (*BENCH, "engine")], ids=" ".join
)
def test_help_that_nobody_reads_ends_quietly_too(unread: int, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments, "--help", output=unread)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, "")


def run(*arguments: str, output: int, buffering: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": buffering},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def test_a_socket_whose_peer_has_left_is_no_reader_of_the_output() -> None:
    near, far = socket.socketpair()
    far.close()
    with near, pytest.raises(BrokenPipeError), program("skiff"):
        near.send(b"x")


def test_what_cannot_be_done_is_one_line() -> None:
    with pytest.raises(SystemExit, match=r"^skiff: no such folder$"), program("skiff"):
        raise StartError("no such folder")


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, program("skiff-bench"):
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "skiff-bench: interrupted\n"
