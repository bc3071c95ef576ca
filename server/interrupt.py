"""What Ctrl-C does to a program before and after its imports.

Imports nothing that takes time, since `end_at_once` is to be called before all else.
"""

import signal
from types import FrameType


def end_at_once() -> None:
    """From here on Ctrl-C ends the process at once, until the program handles it.

    Call this before the imports, which take tenths of a second: Ctrl-C in them would show a
    traceback.
    """
    if not _ignored(signal.SIGINT):
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def unwind_at(*endings: signal.Signals) -> None:
    """From here on these signals raise KeyboardInterrupt in the main thread, so that half-finished
    work is removed."""
    for ending in endings:
        if not _ignored(ending):
            at_ctrl_c = ending is signal.SIGINT
            signal.signal(ending, signal.default_int_handler if at_ctrl_c else _interrupt)


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Does what Ctrl-C would do: while Trio runs, it has a handler of its own for that signal."""
    handler = signal.getsignal(signal.SIGINT)
    (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)


def _ignored(ending: signal.Signals) -> bool:
    """Whether the process was started to survive it, as by nohup or in a script's background."""
    return signal.getsignal(ending) is signal.SIG_IGN
