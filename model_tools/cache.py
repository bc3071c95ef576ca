"""Where Skiff keeps what it can make again, and how a process adds to it. Knows nothing of what."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from server.errors import StartError


def cache_folder() -> Path:
    """As the XDG Base Directory Specification has it. Raises `StartError`."""
    told = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (told if told.is_absolute() else Path.home() / ".cache") / "skiff"
    except RuntimeError as error:
        raise StartError(f"no cache folder: {error}") from None


@contextlib.contextmanager
def alone(place: Path, waits: Callable[[], None]) -> Iterator[Path]:
    """Holds the place's lock for the block and gives an empty folder there to work in.

    The folder has one name, so that what a killed process left in it goes with the next. Calls
    `waits` where another process has the lock. Raises `OSError`.
    """
    workspace = place / ".unfinished"
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(workspace, ignore_errors=True)
        workspace.mkdir()
        try:
            yield workspace
        finally:
            shutil.rmtree(workspace, ignore_errors=True)
