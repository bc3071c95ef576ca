"""A folder that appears whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from server.errors import StartError


@contextlib.contextmanager
def new_folder(path: Path, *, mark: str, replace: bool) -> Iterator[Path]:
    """Yields an empty folder beside `path`, and renames it to `path` when the block succeeds.

    A block that raises leaves no trace. With `replace`, an empty folder or an earlier model folder,
    known by its file `mark`, is replaced. Raises StartError if `path` is taken, and OSError.
    """
    path = Path(os.path.realpath(path))
    _check_path(path, mark, replace=replace)
    with _parents(path), _workspace(path) as workspace:
        # Its own subfolder, since the workspace is closed to other users.
        unfinished = Path(workspace, "new", path.name)
        unfinished.mkdir(parents=True)
        yield unfinished
        _check_path(path, mark, replace=replace)
        _put_in_place(unfinished, path, earlier=Path(workspace, "earlier"))


def _check_path(path: Path, mark: str, *, replace: bool) -> None:
    if not os.path.lexists(path):  # a loop of links is there, but does not `exist`
        return
    if not path.is_dir() or not ((path / mark).exists() or not any(path.iterdir())):
        raise StartError(
            f"{path} exists and is not a model folder, and --force replaces nothing else"
        )
    if not replace:
        raise StartError(f"{path} exists; --force replaces it")


@contextlib.contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Makes the missing parents of `path`; removes them again if the block fails."""
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):  # never made, or used by somebody else by now
                folder.rmdir()
        raise


def _workspace(path: Path) -> tempfile.TemporaryDirectory[str]:
    """Makes a folder beside `path`. Errors name `path`: nobody knows the temporary name."""
    try:
        return tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _put_in_place(unfinished: Path, path: Path, *, earlier: Path) -> None:
    if path.exists():
        path.rename(earlier)
    try:
        unfinished.rename(path)
    except BaseException:
        if earlier.exists():
            earlier.rename(path)
        raise
