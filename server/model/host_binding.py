"""Inputs and outputs of a graph in the host's memory, bound by address.

Knows names, arrays and buffers; does not know when calls are made.
"""

import numpy as np
from numpy.typing import NDArray

from server.model.kv_memory import KvBuffer
from server.model.runtime import onnxruntime


class HostBinding:
    """What one kind of call reads and writes. Keeps what it is fed; who binds other memory keeps
    that as long as calls are made."""

    def __init__(self, session: "onnxruntime.InferenceSession") -> None:
        self.bound = session.io_binding()
        self._fed: dict[str, NDArray[np.generic]] = {}

    def feed(self, name: str, array: NDArray[np.generic]) -> None:
        self._fed[name] = array
        # Not `bind_cpu_input`: that one does not know overridable initializers.
        self.bound.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))

    def logits(self, array: NDArray[np.float32]) -> None:
        """[n, k, V]"""
        self.bound.bind_output("logits", "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def kv(self, buffer: KvBuffer, slot: int, rows: int, past: str, present: str) -> None:
        """Keys or values of `rows` neighbouring slots as both the input `past` and the output
        `present`, so that new positions are written in place."""
        shape = (rows, *buffer.array.shape[1:])
        place = ("cpu", 0, buffer.shape.dtype.type, shape, buffer.address(slot))
        self.bound.bind_input(past, *place)
        self.bound.bind_output(present, *place)
