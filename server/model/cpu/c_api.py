"""ONNX Runtime's C API, through ctypes, for what its Python module lacks: sessions that share their
packed weights.

Knows where functions are, and how they fail; does not know what they are called for.
"""

import ctypes
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

_VERSION = 31
"""Of the API: that of the oldest runtime that setup.cfg allows. A runtime offers all versions up to
its own."""
_POINTER, _TEXT, _INT, _SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
_FUNCTIONS: dict[str, tuple[int, list[Any]]] = {
    "CreateEnv": (3, [_INT, _TEXT, _POINTER]),
    "CreateSession": (7, [_POINTER, _TEXT, _POINTER, _POINTER]),
    "CreateSessionOptions": (10, [_POINTER]),
    "DisableMemPattern": (17, [_POINTER]),
    "SetSessionLogSeverityLevel": (22, [_POINTER, _INT]),
    "SetIntraOpNumThreads": (24, [_POINTER, _INT]),
    "SetInterOpNumThreads": (25, [_POINTER, _INT]),
    "SessionGetInputCount": (30, [_POINTER, _POINTER]),
    "SessionGetOutputCount": (31, [_POINTER, _POINTER]),
    "SessionGetOverridableInitializerCount": (32, [_POINTER, _POINTER]),
    "SessionGetInputTypeInfo": (33, [_POINTER, _SIZE, _POINTER]),
    "SessionGetOutputTypeInfo": (34, [_POINTER, _SIZE, _POINTER]),
    "SessionGetOverridableInitializerTypeInfo": (35, [_POINTER, _SIZE, _POINTER]),
    "SessionGetInputName": (36, [_POINTER, _SIZE, _POINTER, _POINTER]),
    "SessionGetOutputName": (37, [_POINTER, _SIZE, _POINTER, _POINTER]),
    "SessionGetOverridableInitializerName": (38, [_POINTER, _SIZE, _POINTER, _POINTER]),
    "CreateRunOptions": (39, [_POINTER]),
    "RunOptionsSetTerminate": (46, [_POINTER]),
    "CreateTensorWithDataAsOrtValue": (
        49,
        [_POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _INT, _POINTER],
    ),
    "CastTypeInfoToTensorInfo": (55, [_POINTER, _POINTER]),
    "GetTensorElementType": (60, [_POINTER, _POINTER]),
    "GetDimensionsCount": (61, [_POINTER, _POINTER]),
    "GetDimensions": (62, [_POINTER, _POINTER, _SIZE]),
    "CreateCpuMemoryInfo": (69, [_INT, _INT, _POINTER]),
    "AllocatorFree": (76, [_POINTER, _POINTER]),
    "GetAllocatorWithDefaultOptions": (78, [_POINTER]),
    "AddSessionConfigEntry": (130, [_POINTER, _TEXT, _TEXT]),
    "RunWithBinding": (133, [_POINTER, _POINTER, _POINTER]),
    "CreateIoBinding": (134, [_POINTER, _POINTER]),
    "BindInput": (136, [_POINTER, _TEXT, _POINTER]),
    "BindOutput": (137, [_POINTER, _TEXT, _POINTER]),
    "AddInitializer": (150, [_POINTER, _TEXT, _POINTER]),
    "AddRunConfigEntry": (165, [_POINTER, _TEXT, _TEXT]),
    "CreatePrepackedWeightsContainer": (166, [_POINTER]),
    "CreateSessionWithPrepackedWeightsContainer": (
        168,
        [_POINTER, _TEXT, _POINTER, _POINTER, _POINTER],
    ),
}
"""Index in the struct `OrtApi` and argument types of each function used that returns a status
(onnxruntime_c_api.h; later versions never change an index)."""
_GET_ERROR_MESSAGE = 2
_RELEASES = {
    "Env": 92,
    "Status": 93,
    "MemoryInfo": 94,
    "Session": 95,
    "Value": 96,
    "RunOptions": 97,
    "TypeInfo": 98,
    "SessionOptions": 100,
    "IoBinding": 135,
    "PrepackedWeightsContainer": 167,
}


class Handle(ctypes.c_void_p):
    """An object of the runtime's. It is released with the last reference to this handle, and before
    the objects that it needs."""


class CApi:
    """The functions of a library; a process has one."""

    def __init__(self, library: Path) -> None:
        """Raises `OSError` where it cannot be loaded or is too old."""
        loaded = ctypes.CDLL(str(library))
        loaded.OrtGetApiBase.restype = ctypes.POINTER(_POINTER)
        get_api = ctypes.CFUNCTYPE(ctypes.POINTER(_POINTER), ctypes.c_uint32)(
            loaded.OrtGetApiBase()[0]
        )
        table = get_api(_VERSION)
        if not table:
            raise OSError(f"{library}: has no version {_VERSION} of its API")
        self._functions = {
            name: ctypes.CFUNCTYPE(_POINTER, *arguments)(table[index])
            for name, (index, arguments) in _FUNCTIONS.items()
        }
        self._releases = {
            name: ctypes.CFUNCTYPE(None, _POINTER)(table[index])
            for name, index in _RELEASES.items()
        }
        self._message = ctypes.CFUNCTYPE(_TEXT, _POINTER)(table[_GET_ERROR_MESSAGE])

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function, without the GIL. Raises `RuntimeError` with the runtime's own words."""
        if status := self._functions[name](*arguments):
            message = self._message(status)
            self._releases["Status"](status)
            raise RuntimeError((message or b"").decode(errors="replace"))

    def make(
        self, kind: str, function: str, *arguments: Any, needs: tuple[object, ...] = ()
    ) -> Handle:
        """Returns the object that a function creates through its last argument; `_RELEASES` has its
        `kind`. It keeps `needs` alive."""
        made = Handle()
        self.call(function, *arguments, ctypes.byref(made))
        weakref.finalize(made, _release, self._releases[kind], made.value, needs).atexit = False
        return made

    def ask(self, name: str, *arguments: Any) -> int:
        """Returns the number or address that a function writes to its last argument."""
        answer = ctypes.c_size_t()
        self.call(name, *arguments, ctypes.byref(answer))
        return answer.value


def _release(release: Callable[[int | None], None], address: int | None, _: object) -> None:
    """The last argument is what it needs: a finaliser keeps its arguments until it has run."""
    release(address)
