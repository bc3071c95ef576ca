"""How console programs print and exit: a mistake is one line, a reader that leaves is no mistake.

Knows argparse and the terminal's streams; does not know what a program does.
"""

import argparse
import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from server.errors import StartError
from server.log_format import escaped

_INTERRUPTED = 128 + signal.SIGINT


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are."""

    def error(self, message: str) -> NoReturn:
        """Raises `StartError`."""
        raise StartError(f"{message} ({self.prog} --help shows what there is)")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print --help and --version; argparse itself ignores what it cannot write. Raises as `say`
        does."""
        if file is sys.stdout:
            say(message.removesuffix("\n"))
        else:
            super()._print_message(message, file)


@contextmanager
def program(name: str) -> Iterator[None]:
    """Wraps all that a program does. Exits the process when it cannot go on.

    If a reader of its output leaves, as `head` does, the program ends as by SIGPIPE. The signal is
    not enabled from the start: then a socket whose peer has left would end a server, too.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may have any character
    try:
        try:
            yield
        finally:
            say()  # if the interpreter flushed, an error would be a traceback
    except StartError as error:
        sys.exit(f"{name}: {escaped(str(error))}")  # which may quote a file, or its name
    except (KeyboardInterrupt, BaseExceptionGroup) as error:
        if not _is_interrupt(error):
            raise
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        if not _unread():
            raise
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.raise_signal(signal.SIGPIPE)


def say(*lines: str) -> None:
    """Prints lines, and flushes all that was printed before. Raises `BrokenPipeError` if nobody
    reads them, and `StartError` if they cannot be written, for instance to a full disk."""
    try:
        print("".join(f"{line}\n" for line in lines), end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        # The rest stays in the buffer; without this, the interpreter would fail on it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StartError(f"cannot write to stdout: {error.strerror}") from None


def _is_interrupt(error: BaseException) -> bool:
    """Whether the user interrupted the program. Out of Trio's nurseries that comes in a group."""
    return BaseExceptionGroup("", [error]).subgroup(KeyboardInterrupt) is not None


def _unread() -> bool:
    """Whether stdout or stderr has lost its reader."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        poll.register(stream, 0)  # to hear of errors only
    return bool(poll.poll(0))
