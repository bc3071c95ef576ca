"""How console programs exit: quietly if nobody reads their output, with one line on an error."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from server.errors import StartError
from server.program import program

PROGRAMS = [("-m", "server"), ("-m", "model_tools"), ("-m", "model_tools.bench")]


@pytest.fixture
def unread() -> Iterator[int]:
    """The write end of a pipe whose read end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("buffering", ["", "1"])
def test_where_nobody_reads_a_program_ends_as_by_sigpipe(unread: int, buffering: str) -> None:
    ended = run("-m", "server", "doctor", output=unread, buffering=buffering)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize(
    "arguments", [*PROGRAMS, ("-m", "model_tools.bench", "engine")], ids=" ".join
)
def test_help_that_nobody_reads_ends_quietly_too(unread: int, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments, "--help", output=unread)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, "")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize("buffering", ["", "1"])
@pytest.mark.parametrize("argument", ["doctor", "--help"])
def test_no_room_for_what_it_says_is_one_line(argument: str, buffering: str) -> None:
    with Path("/dev/full").open("w") as full:
        ended = run("-m", "server", argument, output=full.fileno(), buffering=buffering)
    said = "skiff: cannot write to stdout: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (1, said)


def test_what_the_encoding_of_the_output_lacks_is_escaped(tmp_path: Path) -> None:
    code = r"""
from server.program import program, say
with program("skiff"):
    say("\N{LATIN SMALL LETTER E WITH ACUTE} \udcff")
"""
    path = tmp_path / "said"
    with path.open("w") as said:
        ended = run("-c", code, output=said.fileno(), PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert path.read_text() == "\\xe9 \\udcff\n"


def run(
    *arguments: str, output: int, buffering: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": buffering, **environment},
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


def test_it_is_one_line_whatever_a_file_says() -> None:
    with pytest.raises(SystemExit, match=r"^skiff: no key a\\nb\\x1b\[2J$"), program("skiff"):
        raise StartError("no key a\nb\x1b[2J")


async def clients_that_are_interrupted() -> None:
    async with trio.open_nursery(), trio.open_nursery():
        raise KeyboardInterrupt


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "work", [interrupted, partial(trio.run, clients_that_are_interrupted)], ids=["alone", "clients"]
)
def test_ctrl_c_is_one_line(work: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, program("skiff-bench"):
        work()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "skiff-bench: interrupted\n"


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_ctrl_c_in_the_imports_is_quiet(program: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    ended = subprocess.run(
        [sys.executable, "-P", *program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        # Background jobs of a script ignore SIGINT, and so may these tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_clients_have_begun_is_undone_at_each_signal(ending: signal.Signals) -> None:
    code = f"""
import os, signal, trio
from server.interrupt import unwind_at
from server.program import program, say
async def clients():
    try:
        await trio.to_thread.run_sync(os.kill, os.getpid(), {ending:d})  # while Trio's loop waits
        await trio.sleep_forever()
    finally:
        say("undone")
with program("skiff-bench"):
    signal.signal({ending:d}, signal.SIG_DFL)  # the tests may run in the background, or by nohup
    unwind_at(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    trio.run(clients)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    said = (ended.returncode, ended.stdout, ended.stderr)
    assert said == (130, "undone\n", "skiff-bench: interrupted\n")


def test_what_else_ends_clients_is_not_hidden() -> None:
    with pytest.raises(ExceptionGroup), program("skiff-bench"):
        raise ExceptionGroup("of clients", [ValueError()])
