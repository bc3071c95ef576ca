"""The cache folder, and a lock for adding to it. Does not know what is cached."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from server.errors import StartError


def cache_folder() -> Path:
    """Returns the folder of the XDG Base Directory Specification. Raises `StartError`."""
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (configured if configured.is_absolute() else Path.home() / ".cache") / "skiff"
    except RuntimeError as error:
        raise StartError(f"no cache folder: {error}") from None


@contextlib.contextmanager
def exclusive_workspace(folder: Path, on_wait: Callable[[], None]) -> Iterator[Path]:
    """Holds the folder's lock for the block and yields an empty subfolder to work in.

    The subfolder always has the same name, so that the next process removes what a killed one left.
    A child process can hold the lock, too, so that nobody removes the subfolder under one that
    outlives its killed parent: if it is started with `close_fds=False`, until it ends. Calls
    `on_wait` if another process has the lock. Raises `OSError`.
    """
    workspace = folder / ".unfinished"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)
        shutil.rmtree(workspace, ignore_errors=True)
        workspace.mkdir()
        try:
            yield workspace
        finally:
            shutil.rmtree(workspace, ignore_errors=True)
