"""Inputs and outputs of a graph at addresses of a device. Knows ONNX Runtime's bindings by their
methods only, so that the tests' fake can stand in for them."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from server.config import Device
from server.model.graph_interface import Session


class DeviceSession(Session, Protocol):
    """A graph on a device: the part of an ONNX Runtime session that runs it."""

    def io_binding(self) -> Any: ...

    def run_with_iobinding(self, iobinding: Any, run_options: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor in the device's memory."""

    address: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    onnx_type: int | None = None
    """As in `KvShape`."""

    @property
    def element_type(self) -> type[np.generic] | int:
        """As ONNX Runtime's bindings take it."""
        return self.dtype.type if self.onnx_type is None else self.onnx_type


class Binding:
    """The inputs and outputs of one kind of call. Keeps nothing alive: the caller keeps bound
    memory as long as calls are made."""

    def __init__(self, session: DeviceSession, device: Device) -> None:
        self.io_binding = session.io_binding()
        self._device = (device.kind.value, device.index)

    def input(self, name: str, placed: Placed) -> None:
        self.io_binding.bind_input(
            name, *self._device, placed.element_type, placed.shape, placed.address
        )

    def host_input(self, name: str, array: NDArray[np.generic]) -> None:
        """Binds an input that the graph takes on the host."""
        self.io_binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def output(self, name: str, placed: Placed) -> None:
        self.io_binding.bind_output(
            name, *self._device, placed.element_type, placed.shape, placed.address
        )
