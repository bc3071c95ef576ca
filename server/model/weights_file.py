"""The weights of a folder's graphs, mapped from the file that they lie in.

Knows the list that says what lies where; does not know what a weight is for.
"""

import json
import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.errors import StartError

LIST = "weights.json"
"""Beside the graphs: `data`, the name of the file, and of each weight in `weights` its `name`,
`dtype`, `shape` and `offset`, in bytes."""
_DTYPES = {"float32", "float16", "int8", "uint8", "int64"}


class WeightsFile:
    """Arrays that are read where they are mapped; nobody may write to them."""

    def __init__(self, listing: Path) -> None:
        """Raises `StartError` with one line."""
        try:
            document = json.loads(listing.read_bytes())
            with _inside(listing.parent, document["data"]).open("rb") as file:
                self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.arrays = {each["name"]: self._array(each) for each in document["weights"]}
        except OSError as error:
            raise StartError(f"{error.filename or listing}: {error.strerror or error}") from None
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise StartError(f"{listing}: is no list of weights: {error!r}") from None

    def forget(self) -> None:
        """What was read leaves memory; whoever reads it again gets it again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)

    def _array(self, listed: dict[str, Any]) -> NDArray[Any]:
        name, dtype, shape, offset = (listed[key] for key in ("name", "dtype", "shape", "offset"))
        if not isinstance(name, str) or dtype not in _DTYPES:
            raise ValueError(f"{name} of type {dtype}")
        if any(type(number) is not int or number < 0 for number in (offset, *shape)):
            raise ValueError(f"{name} of shape {shape} at {offset}")
        end = offset + math.prod(shape) * np.dtype(dtype).itemsize
        if end > len(self._pages):
            raise ValueError(f"{name} ends at byte {end} of {len(self._pages)}")
        return np.ndarray(shape, dtype, self._pages, offset)


def _inside(folder: Path, name: str) -> Path:
    """A file that lies there, and not only a link to it: a folder is input, too."""
    file = (folder / name).resolve()
    if file.parent != folder.resolve():
        raise ValueError(f"{name} lies outside of the folder")
    return file
