"""ONNX Runtime's C API, through ctypes, for what its Python module lacks: sessions that share their
packed weights.

Knows where functions are, and how they fail; does not know what they are called for.
"""

import ctypes
import weakref
from pathlib import Path
from typing import Any

_VERSION = 23
"""Of the API. A runtime has all versions up to its own."""
_P, _S, _I, _N = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
_FUNCTIONS: dict[str, tuple[int, list[Any]]] = {
    "CreateEnv": (3, [_I, _S, _P]),
    "CreateSession": (7, [_P, _S, _P, _P]),
    "CreateSessionOptions": (10, [_P]),
    "DisableMemPattern": (17, [_P]),
    "SetSessionLogSeverityLevel": (22, [_P, _I]),
    "SetIntraOpNumThreads": (24, [_P, _I]),
    "SetInterOpNumThreads": (25, [_P, _I]),
    "SessionGetInputCount": (30, [_P, _P]),
    "SessionGetOutputCount": (31, [_P, _P]),
    "SessionGetOverridableInitializerCount": (32, [_P, _P]),
    "SessionGetInputTypeInfo": (33, [_P, _N, _P]),
    "SessionGetOutputTypeInfo": (34, [_P, _N, _P]),
    "SessionGetOverridableInitializerTypeInfo": (35, [_P, _N, _P]),
    "SessionGetInputName": (36, [_P, _N, _P, _P]),
    "SessionGetOutputName": (37, [_P, _N, _P, _P]),
    "SessionGetOverridableInitializerName": (38, [_P, _N, _P, _P]),
    "CreateRunOptions": (39, [_P]),
    "RunOptionsSetTerminate": (46, [_P]),
    "CreateTensorWithDataAsOrtValue": (49, [_P, _P, _N, _P, _N, _I, _P]),
    "CastTypeInfoToTensorInfo": (55, [_P, _P]),
    "GetTensorElementType": (60, [_P, _P]),
    "GetDimensionsCount": (61, [_P, _P]),
    "GetDimensions": (62, [_P, _P, _N]),
    "CreateCpuMemoryInfo": (69, [_I, _I, _P]),
    "AllocatorFree": (76, [_P, _P]),
    "GetAllocatorWithDefaultOptions": (78, [_P]),
    "AddSessionConfigEntry": (130, [_P, _S, _S]),
    "RunWithBinding": (133, [_P, _P, _P]),
    "CreateIoBinding": (134, [_P, _P]),
    "BindInput": (136, [_P, _S, _P]),
    "BindOutput": (137, [_P, _S, _P]),
    "AddInitializer": (150, [_P, _S, _P]),
    "AddRunConfigEntry": (165, [_P, _S, _S]),
    "CreatePrepackedWeightsContainer": (166, [_P]),
    "CreateSessionWithPrepackedWeightsContainer": (168, [_P, _S, _P, _P, _P]),
}
"""Place in the struct `OrtApi` and arguments of each function that is used and returns a status
(onnxruntime_c_api.h; what a version has put there stays there)."""
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
    """Something that the runtime made. It is released with the last reference to this, and before
    anything that it needs."""

    needs: tuple[object, ...] = ()


class CApi:
    """The functions of a library; a process has one."""

    def __init__(self, library: Path) -> None:
        """Raises `OSError` where it cannot be loaded or is too old."""
        loaded = ctypes.CDLL(str(library))
        loaded.OrtGetApiBase.restype = ctypes.POINTER(_P)
        get_api = ctypes.CFUNCTYPE(ctypes.POINTER(_P), ctypes.c_uint32)(loaded.OrtGetApiBase()[0])
        table = get_api(_VERSION)
        if not table:
            raise OSError(f"{library}: has no version {_VERSION} of its API")
        self._functions = {
            name: ctypes.CFUNCTYPE(_P, *arguments)(table[place])
            for name, (place, arguments) in _FUNCTIONS.items()
        }
        self._releases = {
            name: ctypes.CFUNCTYPE(None, _P)(table[place]) for name, place in _RELEASES.items()
        }
        self._message = ctypes.CFUNCTYPE(_S, _P)(table[_GET_ERROR_MESSAGE])

    def call(self, name: str, *arguments: Any) -> None:
        """Raises `RuntimeError` with the runtime's own words. Other threads run meanwhile."""
        if status := self._functions[name](*arguments):
            said = self._message(status)
            self._releases["Status"](status)
            raise RuntimeError((said or b"").decode(errors="replace"))

    def make(
        self, kind: str, function: str, *arguments: Any, needs: tuple[object, ...] = ()
    ) -> Handle:
        """What a function gives with its last argument, which is of a `kind` of `_RELEASES`."""
        made = Handle()
        self.call(function, *arguments, ctypes.byref(made))
        made.needs = needs
        weakref.finalize(made, self._releases[kind], made.value).atexit = False
        return made

    def ask(self, name: str, *arguments: Any) -> int:
        """A number or an address that a function gives with its last argument."""
        answer = ctypes.c_size_t()
        self.call(name, *arguments, ctypes.byref(answer))
        return answer.value
