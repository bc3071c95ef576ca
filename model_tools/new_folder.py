"""A folder that appears whole or not at all."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from server.errors import StartError


@contextlib.contextmanager
def new_folder(path: Path, *, mark: str, replace: bool) -> Iterator[Path]:
    """An empty folder beside `path`, which takes its place when the block ends well.

    Any other end of the block leaves no trace. With `replace` an earlier model folder, known by its
    file `mark`, or an empty one gives way. Raises StartError if the place is taken, and OSError.
    """
    path = path.resolve()
    _check_place(path, mark, replace=replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as workspace:
        # Its own subfolder, since the workspace is closed to other users.
        unfinished = Path(workspace, "new", path.name)
        unfinished.mkdir(parents=True)
        yield unfinished
        _check_place(path, mark, replace=replace)
        _put_in_place(unfinished, path, earlier=Path(workspace, "earlier"))


def _check_place(path: Path, mark: str, *, replace: bool) -> None:
    if not path.exists():
        return
    if not replace:
        raise StartError(f"{path} exists; --force replaces it")
    if not path.is_dir() or not ((path / mark).exists() or not any(path.iterdir())):
        raise StartError(f"{path} is not a model folder, and --force replaces nothing else")


def _put_in_place(unfinished: Path, path: Path, *, earlier: Path) -> None:
    if path.exists():
        path.rename(earlier)
    try:
        unfinished.rename(path)
    except BaseException:
        if earlier.exists():
            earlier.rename(path)
        raise
