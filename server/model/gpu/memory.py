"""Memory of the device that runs a graph: the narrow interface to it, and the CPU as such a device.

Knows bytes and addresses; does not know what lies there.
"""

import ctypes
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.config import CPU, Device


class Block(Protocol):
    """Memory that was reserved, and goes back with this object."""

    @property
    def address(self) -> int:
        """Never changes."""

    @property
    def nbytes(self) -> int: ...


class Landing(Protocol):
    """A place on the host for what comes from a device, so that nobody has to wait at once."""

    @property
    def array(self) -> NDArray[np.uint8]: ...

    def fetch(self, address: int) -> None:
        """Queues a copy of as many bytes from there."""

    def wait(self) -> None:
        """Until the last of them is here."""


class DeviceMemory(Protocol):
    """Copies happen in order, between the calls of a session that was opened with `stream`, and are
    done when `settle` or `read` returns. All of it is for one thread at a time.

    Rows are pieces of the same number of bytes, a pitch apart.
    """

    @property
    def device(self) -> Device: ...

    @property
    def stream(self) -> int | None:
        """The device's queue of them; None where they do not wait."""

    @property
    def free_bytes(self) -> int:
        """What nobody has reserved."""

    def reserve(self, nbytes: int) -> Block:
        """Filled with zeros. Raises `MemoryError`."""

    def write(self, address: int, array: NDArray[np.generic], pitch: int = 0) -> None:
        """From the host: the array as it lies there, or with a pitch its elements as rows. It stays
        as it is until somebody has waited for what was queued then or later."""

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Memory of the host, zeros, from which a copy never makes anybody wait."""

    def landing(self, nbytes: int) -> Landing: ...

    def read(self, address: int, array: NDArray[np.generic]) -> None:
        """To the host, when all that was queued is done."""

    def copy(
        self, source: int, destination: int, *, rows: int, row_bytes: int, pitches: tuple[int, int]
    ) -> None:
        """From one place to another that does not overlap it; the pitches are those of the source
        and of the destination."""

    def settle(self) -> None:
        """Waits for what was queued."""


class HostBlock:
    """Memory of the host."""

    def __init__(self, nbytes: int) -> None:
        self._array = np.zeros(nbytes, np.uint8)
        self.address = int(self._array.ctypes.data)
        self.nbytes = nbytes


class HostLanding:
    """Nothing waits."""

    def __init__(self, nbytes: int) -> None:
        self.array = np.zeros(nbytes, np.uint8)

    def fetch(self, address: int) -> None:
        ctypes.memmove(self.array.ctypes.data, address, self.array.nbytes)

    def wait(self) -> None:
        """It is here."""


class HostMemory:
    """The host as a device: what runs on a GPU runs here without one."""

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
        """Nothing waits."""
