"""Types of tensors: of arrays, by their content, and of elements, as graphs declare them.

Knows NumPy, and the names that ONNX and its runtime have for types.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
"""Token ids, [n] or [batch, n]."""
Logits = NDArray[np.float32]
"""[n, V] or [batch, n, V]."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of a tensor's elements."""

    number: int
    """ONNX's (onnx.proto, `TensorProto.DataType`)."""
    name: str
    """ONNX Runtime's."""
    dtype: np.dtype[Any]
    is_dtype: bool = True
    """Whether NumPy has the type itself, and not only one of its size."""


_ALL = (
    TensorType(1, "tensor(float)", np.dtype(np.float32)),
    TensorType(2, "tensor(uint8)", np.dtype(np.uint8)),
    TensorType(3, "tensor(int8)", np.dtype(np.int8)),
    TensorType(7, "tensor(int64)", np.dtype(np.int64)),
    TensorType(10, "tensor(float16)", np.dtype(np.float16)),
    TensorType(16, "tensor(bfloat16)", np.dtype(np.uint16), is_dtype=False),
)
BY_NUMBER = {each.number: each for each in _ALL}
BY_NAME = {each.name: each for each in _ALL}
BY_DTYPE = {each.dtype: each for each in _ALL}
