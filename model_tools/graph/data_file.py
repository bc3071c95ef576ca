"""The external data of an ONNX model, written while its graph is built.

Tensors go to the file as they come, so that only one layer's weights are ever in memory. (onnx-ir's
lazy tensors would do that too, but would read the common sources of a layer's fused and quantised
tensors once for each of them.)
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

PAGE = 4096
"""Every tensor starts on a page: it is mapped into memory, and kernels load aligned."""


class DataFile:
    """A file of tensors that is open for appending; a context manager."""

    def __init__(self, path: Path) -> None:
        self._location = path.name
        self._file = path.open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, name: str, array: NDArray[Any]) -> ir.ExternalTensor:
        """Appends the array and returns the tensor that refers to it; OSError on a full disk."""
        offset = -(-self._file.tell() // PAGE) * PAGE
        self._file.seek(offset)
        # As bytes, since not every type of weights supports the buffer protocol: bfloat16 does not.
        self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return ir.ExternalTensor(
            location=self._location,
            offset=offset,
            length=array.nbytes,
            dtype=ir.DataType.from_numpy(array.dtype),
            shape=ir.Shape(array.shape),
            name=name,
        )
