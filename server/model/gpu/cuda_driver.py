"""Asks NVIDIA's driver for its devices, through ctypes.

Knows `libcuda.so.1` and the standard library only: scripts ask before anything is installed.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LIBRARY = "libcuda.so.1"
MIN_CUDA = (13, 0)
"""The CUDA version that the wheels of the extra `gpu` are built with."""
# cuda.h for the numbers.
_SUCCESS = 0
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device that the driver shows."""

    name: str
    memory: int
    """Bytes."""
    capability: tuple[int, int]
    """Compute capability, such as (9, 0)."""


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver that answers."""

    cuda: tuple[int, int]
    """The newest CUDA whose programs it runs."""
    gpus: tuple[Gpu, ...]
    """In CUDA's own order, without what CUDA_VISIBLE_DEVICES hides."""


@dataclass(frozen=True, slots=True)
class NoDriver:
    """No driver, or one that does not work."""

    reason: str


class _Refused(Exception):
    """The driver answered with an error."""


def find_driver(load: Callable[[str], Any] = ctypes.CDLL) -> Driver | NoDriver:
    """Asks the driver. `load` loads a library by name, and raises `OSError`."""
    try:
        library = load(LIBRARY)
        _call(library, "cuInit", 0)
        return Driver(_version(library), tuple(_gpus(library)))
    except (OSError, _Refused) as error:
        return NoDriver(str(error))


def _version(library: Any) -> tuple[int, int]:
    number = ctypes.c_int()
    _call(library, "cuDriverGetVersion", ctypes.byref(number))
    return number.value // 1000, number.value % 1000 // 10


def _gpus(library: Any) -> list[Gpu]:
    count = ctypes.c_int()
    _call(library, "cuDeviceGetCount", ctypes.byref(count))
    return [_gpu(library, index) for index in range(count.value)]


def _gpu(library: Any, index: int) -> Gpu:
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _call(library, "cuDeviceGet", ctypes.byref(device), index)
    _call(library, "cuDeviceGetName", name, _NAME_BYTES, device)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    major, minor = (
        _attribute(library, number, device) for number in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR)
    )
    return Gpu(name.value.decode(errors="replace"), memory.value, (major, minor))


def _attribute(library: Any, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(library, "cuDeviceGetAttribute", ctypes.byref(value), number, device)
    return value.value


def _call(library: Any, function: str, *arguments: object) -> None:
    """Calls a function of the driver; each returns an error code. Raises `_Refused`."""
    code = getattr(library, function)(*arguments)
    if code != _SUCCESS:
        text = ctypes.c_char_p()
        library.cuGetErrorString(code, ctypes.byref(text))
        message = (text.value or b"an unknown error").decode(errors="replace")
        raise _Refused(f"{LIBRARY}: {function}: {message} ({code})")
