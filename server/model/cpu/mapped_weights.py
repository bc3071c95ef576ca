"""The weights of a folder's graphs, mapped from the files that they lie in.

Knows what graphs declare; does not know what a weight is for.
"""

import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.model.cpu.external_tensors import ExternalTensor, external_tensors
from server.model.tensor_types import BY_NUMBER


class MappedWeights:
    """Read-only arrays that are mapped from files."""

    def __init__(self) -> None:
        self._files: dict[Path, mmap.mmap] = {}

    def of(self, graph: Path) -> dict[str, NDArray[Any]]:
        """Returns a graph's weights by name. Anything unusual is left to the runtime, which loads
        it itself or refuses it, such as a file outside of the graph's folder."""
        try:
            found = [(each.name, self._array(graph, each)) for each in external_tensors(graph)]
        except (OSError, ValueError, LookupError, RuntimeError):  # RuntimeError: links in a circle
            return {}
        return {name: array for name, array in found if array is not None}

    def forget(self) -> None:
        """Drops what was read from memory; it is read from the files again when needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for pages in self._files.values():
                pages.madvise(mmap.MADV_DONTNEED)

    def _array(self, graph: Path, tensor: ExternalTensor) -> NDArray[Any] | None:
        """Returns None for a type or alignment that cannot be mapped. Raises as reading the file
        does, and `ValueError` if the file is too short or lies outside of the folder."""
        kind = BY_NUMBER.get(tensor.data_type)
        if kind is None or tensor.offset % kind.dtype.alignment:
            return None
        pages = self._pages(graph.parent / tensor.location, graph)
        size = math.prod(tensor.shape) * kind.dtype.itemsize
        if not 0 <= tensor.offset <= len(pages) - size:  # NumPy would accept a negative one
            raise ValueError(f"{tensor.name} lies beyond {tensor.location}")
        return np.ndarray(tensor.shape, kind.dtype, pages, tensor.offset)

    def _pages(self, file: Path, graph: Path) -> mmap.mmap:
        if file not in self._files:
            if not _is_beside(file, graph):
                raise ValueError(f"{file} lies outside of the folder of {graph}")
            with file.open("rb") as opened:
                self._files[file] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return self._files[file]


def _is_beside(file: Path, graph: Path) -> bool:
    """Whether a file lies in the graph's folder once links are followed: a folder is untrusted
    input. If the graph is a link itself, the file may also lie in the folder of its target."""
    folders = graph.parent.resolve(), graph.resolve().parent
    return any(file.resolve().is_relative_to(folder) for folder in folders)
