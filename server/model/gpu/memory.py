"""Memory of the device that runs a graph: the narrow interface to it, and the CPU as such a device.

Knows bytes and addresses; does not know what lies there.
"""

import ctypes
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.config import CPU, Device


class Block(Protocol):
    """Reserved memory, which is freed with this object."""

    @property
    def address(self) -> int:
        """Never changes."""

    @property
    def nbytes(self) -> int: ...


class Landing(Protocol):
    """A buffer on the host for copies from a device that nobody has to wait for at once."""

    @property
    def array(self) -> NDArray[np.uint8]: ...

    def fetch(self, address: int) -> None:
        """Queues a copy of `array.nbytes` bytes from an address of the device."""

    def wait(self) -> None:
        """Waits for the last of these copies."""


class DeviceMemory(Protocol):
    """Memory of a device. Copies run in order, also with the calls of a session that was opened
    with `stream`, and are done when `settle` or `read` returns. For one thread at a time.

    Rows are blocks of the same number of bytes, a pitch apart.
    """

    @property
    def device(self) -> Device: ...

    @property
    def stream(self) -> int | None:
        """The device's queue of copies; None where they run at once."""

    @property
    def free_bytes(self) -> int:
        """Bytes that nobody has reserved."""

    def reserve(self, nbytes: int) -> Block:
        """Reserves memory filled with zeros. Raises `MemoryError`."""

    def write(self, address: int, array: NDArray[np.generic], pitch: int = 0) -> None:
        """Queues a copy from the host: the array as it is or, with a pitch, its elements as rows.
        It must not change until the caller has waited for this or for something queued later."""

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Returns page-locked host memory of zeros, from which a copy never blocks."""

    def landing(self, nbytes: int) -> Landing: ...

    def read(self, address: int, array: NDArray[np.generic]) -> None:
        """Copies to the host after all that was queued, and waits."""

    def copy(
        self, source: int, destination: int, *, rows: int, row_bytes: int, pitches: tuple[int, int]
    ) -> None:
        """Queues a copy within the device, between memory that does not overlap. The pitches are
        those of the source and of the destination."""

    def settle(self) -> None:
        """Waits for all that was queued."""


class HostBlock:
    """Memory of the host."""

    def __init__(self, nbytes: int) -> None:
        self._array = np.zeros(nbytes, np.uint8)
        self.address = int(self._array.ctypes.data)
        self.nbytes = nbytes


class HostLanding:
    """`Landing` of the host, where copies run at once."""

    def __init__(self, nbytes: int) -> None:
        self.array = np.zeros(nbytes, np.uint8)

    def fetch(self, address: int) -> None:
        ctypes.memmove(self.array.ctypes.data, address, self.array.nbytes)

    def wait(self) -> None:
        """Does nothing: the copy is done."""


class HostMemory:
    """The host as a device, so that the GPU's code can run without a GPU."""

    device = CPU
    stream = None
    free_bytes = 2**63 - 1

    def reserve(self, nbytes: int) -> HostBlock:
        return HostBlock(nbytes)

    def write(self, address: int, array: NDArray[np.generic], pitch: int = 0) -> None:
        source, size = array.ctypes.data, array.itemsize if pitch else array.nbytes
        for row in range(array.size if pitch else 1):
            ctypes.memmove(address + row * pitch, source + row * size, size)

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        return np.zeros(nbytes, np.uint8)

    def landing(self, nbytes: int) -> HostLanding:
        return HostLanding(nbytes)

    def read(self, address: int, array: NDArray[np.generic]) -> None:
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def copy(
        self, source: int, destination: int, *, rows: int, row_bytes: int, pitches: tuple[int, int]
    ) -> None:
        for row in range(rows):
            ctypes.memmove(destination + row * pitches[1], source + row * pitches[0], row_bytes)

    def settle(self) -> None:
        """Does nothing: all copies are done."""
