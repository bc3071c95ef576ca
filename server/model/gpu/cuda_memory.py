"""Memory of an NVIDIA GPU, through CUDA's own runtime library.

Knows `libcudart` through ctypes. That library is in the process anyway, since ONNX Runtime's CUDA
provider is linked to it. It has what ONNX Runtime's Python module lacks: copies of rows within the
device, from and to the middle of a buffer, and memory of exactly the size that is asked for.
`OrtValue.update_inplace` and `copy_tensors` copy whole tensors only, so that the beginning of a
slot would take a copy for each head of each layer. A graph of Slice and TensorScatter would do it
in kernels, but only as long as ONNX Runtime runs it in place.
"""

import ctypes
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.config import Device
from server.errors import StartError

# driver_types.h for the numbers.
_OUT_OF_MEMORY = 2
_HOST_TO_DEVICE, _DEVICE_TO_HOST, _DEVICE_TO_DEVICE = 1, 2, 3
_NO_FLAGS = 0
_NO_TIMING = 2
"""cudaEventDisableTiming."""
_NON_BLOCKING = 1
"""cudaStreamNonBlocking: no other stream waits for this one, nor this one for another."""
_ARGUMENTS = {
    "cudaSetDevice": [ctypes.c_int],
    "cudaStreamCreateWithFlags": [ctypes.c_void_p, ctypes.c_uint],
    "cudaStreamSynchronize": [ctypes.c_void_p],
    "cudaEventCreateWithFlags": [ctypes.c_void_p, ctypes.c_uint],
    "cudaEventRecord": [ctypes.c_void_p, ctypes.c_void_p],
    "cudaEventSynchronize": [ctypes.c_void_p],
    "cudaEventDestroy": [ctypes.c_void_p],
    "cudaMalloc": [ctypes.c_void_p, ctypes.c_size_t],
    "cudaFree": [ctypes.c_void_p],
    "cudaHostAlloc": [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint],
    "cudaFreeHost": [ctypes.c_void_p],
    "cudaMemGetInfo": [ctypes.c_void_p, ctypes.c_void_p],
    "cudaMemsetAsync": [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p],
    "cudaMemcpyAsync": [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
        ctypes.c_void_p,
    ],
    "cudaMemcpy2DAsync": [
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t),
        *(ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p),
    ],
}
"""The functions that are used; each returns an error code, or 0."""


Call = Callable[..., None]
"""Calls a function of CUDA's by name. Raises `CudaError` and `MemoryError`."""


class CudaError(RuntimeError):
    """A call into CUDA's runtime library failed."""


class CudaBlock:
    """Memory of the device."""

    def __init__(self, address: int, nbytes: int, free: Callable[[int], None]) -> None:
        self.address = address
        self.nbytes = nbytes
        weakref.finalize(self, free, address).atexit = False


class CudaLanding:
    """`Landing` of a GPU. Records an event after each copy, so that `wait` does not wait for what
    is queued later."""

    def __init__(self, array: NDArray[np.uint8], call: Call, stream: ctypes.c_void_p) -> None:
        """`array` is pinned; copies are queued in the stream."""
        self.array = array
        self._host_address = int(array.ctypes.data)
        self._call = call
        self._stream = stream
        self._event = ctypes.c_void_p()
        call("cudaEventCreateWithFlags", ctypes.byref(self._event), _NO_TIMING)
        weakref.finalize(self, call, "cudaEventDestroy", self._event).atexit = False

    def fetch(self, address: int) -> None:
        whole = (self._host_address, address, self.array.nbytes, _DEVICE_TO_HOST)
        self._call("cudaMemcpyAsync", *whole, self._stream)
        self._call("cudaEventRecord", self._event, self._stream)

    def wait(self) -> None:
        self._call("cudaEventSynchronize", self._event)


class CudaMemory:
    """`DeviceMemory` of a GPU. ONNX Runtime makes its calls in the same stream, so that a step is
    one queue of copies, a call and a copy, and the next one can be queued behind it."""

    def __init__(self, device: Device, library: Any) -> None:
        """`library` is what `find_library` returns."""
        self.device = device
        self._library = library
        self._here = threading.local()
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(stream), _NON_BLOCKING)
        self.stream = int(stream.value or 0)
        self._stream = stream

    @property
    def free_bytes(self) -> int:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def reserve(self, nbytes: int) -> CudaBlock:
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), nbytes)
        block = CudaBlock(int(address.value or 0), nbytes, self._free)
        self._call("cudaMemsetAsync", address, 0, nbytes, self._stream)
        return block

    def write(self, address: int, array: NDArray[np.generic], pitch: int = 0) -> None:
        source, size = array.ctypes.data, array.itemsize
        if pitch:
            where = (address, pitch, source, size)
            rows = (size, array.size, _HOST_TO_DEVICE)
            self._call("cudaMemcpy2DAsync", *where, *rows, self._stream)
        else:
            whole = (address, source, array.nbytes, _HOST_TO_DEVICE)
            self._call("cudaMemcpyAsync", *whole, self._stream)

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        address = ctypes.c_void_p()
        self._call("cudaHostAlloc", ctypes.byref(address), nbytes, _NO_FLAGS)
        held = (ctypes.c_uint8 * nbytes).from_address(int(address.value or 0))
        weakref.finalize(held, self._call, "cudaFreeHost", address).atexit = False
        array: NDArray[np.uint8] = np.ctypeslib.as_array(held)
        array[:] = 0
        return array

    def landing(self, nbytes: int) -> CudaLanding:
        return CudaLanding(self.pinned(nbytes), self._call, self._stream)

    def read(self, address: int, array: NDArray[np.generic]) -> None:
        arguments = (array.ctypes.data, address, array.nbytes, _DEVICE_TO_HOST)
        self._call("cudaMemcpyAsync", *arguments, self._stream)
        self.settle()

    def copy(
        self, source: int, destination: int, *, rows: int, row_bytes: int, pitches: tuple[int, int]
    ) -> None:
        if pitches == (row_bytes, row_bytes):  # copies of rows are slower
            whole = (destination, source, rows * row_bytes, _DEVICE_TO_DEVICE)
            self._call("cudaMemcpyAsync", *whole, self._stream)
            return
        where = (destination, pitches[1], source, pitches[0])
        arguments = (*where, row_bytes, rows, _DEVICE_TO_DEVICE)
        self._call("cudaMemcpy2DAsync", *arguments, self._stream)

    def settle(self) -> None:
        self._call("cudaStreamSynchronize", self._stream)

    def _free(self, address: int) -> None:
        self._call("cudaFree", address)

    def _call(self, name: str, *arguments: object) -> None:
        # Each thread has its own current device, and a model runs in another one than loads it.
        if not hasattr(self._here, "device"):
            self._check("cudaSetDevice", self._library.cudaSetDevice(self.device.index))
            self._here.device = self.device
        self._check(name, getattr(self._library, name)(*arguments))

    def _check(self, name: str, error: int) -> None:
        if error:
            # CUDA keeps the error for this thread's next query; ONNX Runtime's kernels make some.
            self._library.cudaGetLastError()
            text = self._library.cudaGetErrorString(error).decode()
            kind = MemoryError if error == _OUT_OF_MEMORY else CudaError
            raise kind(f"{name} on {self.device}: {text}")


def find_library(names: tuple[str, ...] = ("libcudart.so.13", "libcudart.so.12")) -> Any:
    """Returns CUDA's runtime library. `load_cuda` has loaded it already, so the first of the names
    that the system finds is ONNX Runtime's. Raises `StartError`."""
    for name in names:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        for function, arguments in _ARGUMENTS.items():
            getattr(library, function).argtypes = arguments
        library.cudaGetLastError.argtypes = []
        library.cudaGetErrorString.argtypes = [ctypes.c_int]
        library.cudaGetErrorString.restype = ctypes.c_char_p
        return library
    raise StartError(f"CUDA's runtime library cannot be loaded: {' or '.join(names)}")
