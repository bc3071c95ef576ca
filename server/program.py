"""How console programs speak and end: mistakes are one line, and output that nobody reads is none.

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
from typing import NoReturn

from server.errors import StartError

_INTERRUPTED = 128 + signal.SIGINT


class Parser(argparse.ArgumentParser):
    """A command line whose mistakes are one line, as all others are."""

    def error(self, message: str) -> NoReturn:
        """Raises `StartError`."""
        raise StartError(f"{message} ({self.prog} --help shows what there is)")


@contextmanager
def program(name: str) -> Iterator[None]:
    """Around all that a program does. Ends the process where it cannot go on.

    A reader of its output that leaves, as `head` does, ends it as SIGPIPE would. Not by that
    signal from the start: a socket whose peer has left would end a server, too.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may have any character
    try:
        try:
            yield
        finally:
            say()  # what the interpreter flushes itself fails with a traceback
    except StartError as error:
        sys.exit(f"{name}: {error}")
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
    """Prints lines, and all that waits to be printed. Raises `StartError` where there is no room
    for them, and `BrokenPipeError` where nobody reads them."""
    try:
        print("".join(f"{line}\n" for line in lines), end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        # What was not written stays in the buffer, for the interpreter to fail with at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StartError(f"cannot write to stdout: {error.strerror}") from None


def _is_interrupt(error: BaseException) -> bool:
    """Whether the user ended it. What Trio ran side by side ends with a group."""
    return BaseExceptionGroup("", [error]).subgroup(KeyboardInterrupt) is not None


def _unread() -> bool:
    """Whether nobody reads what the program says, on stdout or on stderr."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        poll.register(stream, 0)  # to hear of errors only
    return bool(poll.poll(0))
