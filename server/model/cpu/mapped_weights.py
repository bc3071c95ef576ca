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
    """Arrays that are read where they lie in files; nobody may write to them."""

    def __init__(self) -> None:
        self._files: dict[Path, mmap.mmap] = {}

    def of(self, graph: Path) -> dict[str, NDArray[Any]]:
        """By name. What is unusual in any way is left to the runtime, which loads it by itself or,
        as a file outside of the graph's folder, refuses it."""
        try:
            found = [(each.name, self._array(graph, each)) for each in external_tensors(graph)]
        except (OSError, ValueError, LookupError, RuntimeError):  # the last of links in circles
            return {}
        return {name: array for name, array in found if array is not None}

    def forget(self) -> None:
        """What was read leaves memory; whoever reads it again gets it again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for pages in self._files.values():
                pages.madvise(mmap.MADV_DONTNEED)

    def _array(self, graph: Path, tensor: ExternalTensor) -> NDArray[Any] | None:
        """Raises as reading the file does, and `ValueError` where it does not hold that."""
        kind = BY_NUMBER.get(tensor.data_type)
        if kind is None or tensor.offset % kind.dtype.alignment:
            return None
        pages = self._pages(graph.parent / tensor.location, graph)
        size = math.prod(tensor.shape) * kind.dtype.itemsize
        if not 0 <= tensor.offset <= len(pages) - size:  # NumPy would take a negative one
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
    """Whether it lies in the graph's folder, and is not only a link there: a folder is input, too.
    Where the graph is a link itself, what it leads to may lie beside."""
    folders = graph.parent.resolve(), graph.resolve().parent
    return any(file.resolve().is_relative_to(folder) for folder in folders)
