"""What Ctrl-C does to a program before and after its imports.

Imports nothing that takes time, since the first of the two is to be called before all else.
"""

import signal


def end_at_once() -> None:
    """From here on Ctrl-C ends the process where it stands, until the program listens for it.

    To be called before the imports, which take tenths of a second: Ctrl-C in them would show a
    traceback.
    """
    if not _ignored(signal.SIGINT):
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def unwind_at(*endings: signal.Signals) -> None:
    """From here on these raise KeyboardInterrupt in the main thread, so that what is half-done is
    removed."""
    for ending in endings:
        if not _ignored(ending):
            signal.signal(ending, signal.default_int_handler)


def _ignored(ending: signal.Signals) -> bool:
    """Whether the process was started to live on, as by nohup or in a script's background."""
    return signal.getsignal(ending) is signal.SIG_IGN
