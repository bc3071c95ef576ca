"""Keys and values as a graph declares them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class KvShape:
    """One past/present pair of a graph, for one sequence and one position."""

    past: str
    present: str
    heads: int
    head_dim: int
    dtype: np.dtype[np.generic]
    onnx_type: int | None = None
    """ONNX's number of a type that NumPy lacks; `dtype` is then another of the same size."""

    @property
    def token_bytes(self) -> int:
        """Bytes that one position takes."""
        return self.heads * self.head_dim * self.dtype.itemsize


def pages_for(tokens: int, page_tokens: int) -> int:
    """Returns how many pages `tokens` tokens take; the last one may be partly empty."""
    return -(-tokens // page_tokens)
