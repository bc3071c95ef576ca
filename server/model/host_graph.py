"""A graph on the CPU, by way of ONNX Runtime's C API.

Knows sessions, weights, bindings and tensors; does not know what a graph's inputs mean.
"""

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.errors import StartError
from server.model.c_api import CApi, Handle
from server.model.heap import give_back, huge_pages
from server.model.runtime import CALL_SETTINGS, QUIET, SESSION_SETTINGS, library, loading
from server.model.weights_file import WeightsFile

_TYPES = {
    1: "tensor(float)",
    2: "tensor(uint8)",
    3: "tensor(int8)",
    7: "tensor(int64)",
    10: "tensor(float16)",
    16: "tensor(bfloat16)",
}
"""`ONNXTensorElementDataType`, in the words of the runtime's Python module."""
_NUMBERS = {
    np.dtype(np.float32): 1,
    np.dtype(np.uint8): 2,
    np.dtype(np.int8): 3,
    np.dtype(np.int64): 7,
    np.dtype(np.float16): 10,
    np.dtype(np.uint16): 16,  # as `KvShape` has bfloat16
}
_ARENA, _DEFAULT_MEMORY = 1, 0
"""OrtArenaAllocator, OrtMemTypeDefault."""
_PACKED = 1.25
"""Bytes that weights take as the runtime's kernels want them, to one on disk, at most."""


class PackedWeights:
    """The weights of a folder's graphs, which the runtime packs once for all graphs that are opened
    with them."""

    def __init__(self, file: WeightsFile) -> None:
        """Raises `StartError`."""
        self.file = file
        self.values = {name: _tensor(array) for name, array in file.arrays.items()}
        self.container = _api().make("PrepackedWeightsContainer", "CreatePrepackedWeightsContainer")


@dataclass(frozen=True, slots=True)
class HostNode:
    """An input or output of a graph."""

    name: str
    type: str
    shape: list[int | str | None]
    """None: known when the graph runs."""


class CallOptions:
    """Of calls that another thread may end."""

    def __init__(self) -> None:
        self.handle = _api().make("RunOptions", "CreateRunOptions")
        for name, value in CALL_SETTINGS.items():
            _api().call("AddRunConfigEntry", self.handle, name.encode(), value.encode())
        self.terminated = False

    def terminate(self) -> None:
        """The call under way ends with an error, and so does each later one."""
        self.terminated = True
        _api().call("RunOptionsSetTerminate", self.handle)


class HostBinding:
    """What one kind of call reads and writes: arrays, by their addresses."""

    def __init__(self, session: Handle) -> None:
        self.handle = _api().make("IoBinding", "CreateIoBinding", session, needs=(session,))
        self._arrays: dict[str, NDArray[Any]] = {}
        """Kept as long as calls are made."""

    def input(self, name: str, array: NDArray[Any]) -> None:
        self._arrays[name] = array
        _api().call("BindInput", self.handle, name.encode(), _tensor(array))

    def output(self, name: str, array: NDArray[Any]) -> None:
        self._arrays[name] = array
        _api().call("BindOutput", self.handle, name.encode(), _tensor(array))

    def in_place(self, past: str, present: str, array: NDArray[Any]) -> None:
        """The same memory as the input `past` and the output `present`."""
        self.input(past, array)
        self.output(present, array)


class HostGraph:
    """A graph that is ready to be called; describes itself as `graph_interface.Session`."""

    def __init__(self, file: Path, threads: int, weights: PackedWeights | None = None) -> None:
        """`threads` share a call. Raises `StartError`."""
        with loading(file):
            self._session = _session(file, _session_options(threads, weights), weights)

    def get_inputs(self) -> list[HostNode]:
        return self._nodes("Input")

    def get_outputs(self) -> list[HostNode]:
        return self._nodes("Output")

    def get_overridable_initializers(self) -> list[HostNode]:
        return self._nodes("OverridableInitializer")

    def binding(self) -> HostBinding:
        """In which nothing is bound yet."""
        return HostBinding(self._session)

    def run(self, binding: HostBinding, options: CallOptions) -> None:
        """Raises `RuntimeError`."""
        _api().call("RunWithBinding", self._session, options.handle, binding.handle)

    def _nodes(self, kind: str) -> list[HostNode]:
        count = _api().ask(f"SessionGet{kind}Count", self._session)
        return [
            HostNode(self._name(kind, index), *self._type(kind, index)) for index in range(count)
        ]

    def _name(self, kind: str, index: int) -> str:
        allocator = _api().ask("GetAllocatorWithDefaultOptions")
        place = _api().ask(f"SessionGet{kind}Name", self._session, index, allocator)
        try:
            return ctypes.string_at(place).decode()
        finally:
            _api().call("AllocatorFree", allocator, place)

    def _type(self, kind: str, index: int) -> tuple[str, list[int | str | None]]:
        info = _api().make("TypeInfo", f"SessionGet{kind}TypeInfo", self._session, index)
        tensor = _api().ask("CastTypeInfoToTensorInfo", info)
        if not tensor:
            return "no tensor", []
        number = _api().ask("GetTensorElementType", tensor)
        sizes = (ctypes.c_int64 * _api().ask("GetDimensionsCount", tensor))()
        _api().call("GetDimensions", tensor, sizes, len(sizes))
        shape: list[int | str | None] = [None if size < 0 else size for size in sizes]
        return _TYPES.get(number, f"tensor of type {number}"), shape


@functools.cache
def _api() -> CApi:
    try:
        return CApi(library())
    except OSError as error:
        raise StartError(f"ONNX Runtime's library cannot be loaded: {error}") from None


@functools.cache
def _environment() -> Handle:
    return _api().make("Env", "CreateEnv", QUIET, b"skiff")


@functools.cache
def _host_memory() -> Handle:
    return _api().make("MemoryInfo", "CreateCpuMemoryInfo", _ARENA, _DEFAULT_MEMORY)


def _tensor(array: NDArray[Any]) -> Handle:
    """At the array's address; who gives it keeps it."""
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    place = (array.ctypes.data, array.nbytes, shape, array.ndim, _NUMBERS[array.dtype])
    return _api().make("Value", "CreateTensorWithDataAsOrtValue", _host_memory(), *place)


def _session_options(threads: int, weights: PackedWeights | None) -> Handle:
    api = _api()
    options = api.make("SessionOptions", "CreateSessionOptions")
    api.call("SetIntraOpNumThreads", options, threads)
    api.call("SetInterOpNumThreads", options, 1)
    api.call("DisableMemPattern", options)  # shapes vary, and a pattern is kept for each
    api.call("SetSessionLogSeverityLevel", options, QUIET)
    for name, value in SESSION_SETTINGS.items():
        api.call("AddSessionConfigEntry", options, name.encode(), value.encode())
    for name, tensor in weights.values.items() if weights else ():
        api.call("AddInitializer", options, name.encode(), tensor)
    return options


def _session(file: Path, options: Handle, weights: PackedWeights | None) -> Handle:
    api, path = _api(), os.fsencode(file)
    with _together(file):
        if weights is None:
            needs = (_environment(),)
            return api.make("Session", "CreateSession", *needs, path, options, needs=needs)
        session = api.make(
            "Session",
            "CreateSessionWithPrepackedWeightsContainer",
            *(_environment(), path, options, weights.container),
            needs=(_environment(), weights, weights.container),
        )
    weights.file.forget()  # most of it was packed, and is not read again
    return session


@contextmanager
def _together(file: Path) -> Iterator[None]:
    """What is packed lies together and in huge pages; what is freed again leaves memory."""
    on_disk = sum(each.stat().st_size for each in file.parent.glob(f"{file.name}*"))
    with huge_pages(int(_PACKED * on_disk)):
        yield
    give_back()
