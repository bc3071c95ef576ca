"""A graph on the CPU, run through ONNX Runtime's C API.

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

from numpy.typing import NDArray

from server.errors import StartError
from server.model.cpu.c_api import CApi, Handle
from server.model.cpu.mapped_weights import MappedWeights
from server.model.heap import give_back, huge_pages
from server.model.runtime import CALL_SETTINGS, QUIET, SESSION_SETTINGS, library, loading
from server.model.tensor_types import BY_DTYPE, BY_NUMBER

_ARENA, _DEFAULT_MEMORY = 1, 0
"""OrtArenaAllocator, OrtMemTypeDefault."""
_MAX_BINDINGS = 64
"""Bindings kept for one kind of call. One takes 70 to 140 KB with the default model's 30 layers,
and with many slots there are thousands of different calls."""
_PACKED = 1.25
"""Largest size of weights packed for the runtime's kernels, relative to their size on disk."""


class SharedWeights:
    """A graph's weights for several sessions: mapped once, packed once. Some kernels, such as those
    for 16-bit numbers, cannot share packed weights: graphs that need them cannot be opened with
    it."""

    def __init__(self, file: Path) -> None:
        """Raises `StartError`."""
        self.mapped = MappedWeights()
        self.arrays = self.mapped.of(file)
        self.tensors = {name: _tensor(array) for name, array in self.arrays.items()}
        self.packed = _api().make("PrepackedWeightsContainer", "CreatePrepackedWeightsContainer")


@dataclass(frozen=True, slots=True)
class HostNode:
    """An input or output of a graph."""

    name: str
    type: str
    shape: list[int | str | None]
    """With None for a size that is known only when the graph runs."""


class CallOptions:
    """Run options of calls that another thread may end."""

    def __init__(self) -> None:
        self.handle = _api().make("RunOptions", "CreateRunOptions")
        for name, value in CALL_SETTINGS.items():
            _api().call("AddRunConfigEntry", self.handle, name.encode(), value.encode())
        self.terminated = False

    def terminate(self) -> None:
        """Ends the call under way, and each later one, with an error."""
        self.terminated = True
        _api().call("RunOptionsSetTerminate", self.handle)


class HostBinding:
    """The inputs and outputs of one kind of call: arrays, bound by address."""

    def __init__(self, session: Handle) -> None:
        self.handle = _api().make("IoBinding", "CreateIoBinding", session, needs=(session,))
        self._arrays: dict[str, NDArray[Any]] = {}
        """Kept alive as long as calls are made."""

    def input(self, name: str, array: NDArray[Any]) -> None:
        _api().call("BindInput", self.handle, name.encode(), _tensor(array))
        self._arrays[name] = array

    def output(self, name: str, array: NDArray[Any]) -> None:
        _api().call("BindOutput", self.handle, name.encode(), _tensor(array))
        self._arrays[name] = array

    def in_place(self, past: str, present: str, array: NDArray[Any]) -> None:
        """Binds the same memory as the input `past` and the output `present`."""
        self.input(past, array)
        self.output(present, array)


def make_room(bindings: dict[Any, Any]) -> None:
    """Makes room for one more: drops the oldest of many, which is made again when it is needed."""
    if len(bindings) >= _MAX_BINDINGS:
        del bindings[next(iter(bindings))]


class HostGraph:
    """A graph that is ready to be called; describes itself as `graph_interface.Session`."""

    def __init__(self, file: Path, threads: int, weights: SharedWeights | None = None) -> None:
        """`threads` is the number of cores that one call uses. Raises `StartError`."""
        with loading(file):
            self._session = _session(file, threads, weights)

    def get_inputs(self) -> list[HostNode]:
        return self._nodes("Input")

    def get_outputs(self) -> list[HostNode]:
        return self._nodes("Output")

    def get_overridable_initializers(self) -> list[HostNode]:
        return self._nodes("OverridableInitializer")

    def binding(self) -> HostBinding:
        """Returns a binding without inputs and outputs."""
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
        address = _api().ask(f"SessionGet{kind}Name", self._session, index, allocator)
        try:
            return ctypes.string_at(address).decode(errors="replace")
        finally:
            _api().call("AllocatorFree", allocator, address)

    def _type(self, kind: str, index: int) -> tuple[str, list[int | str | None]]:
        info = _api().make("TypeInfo", f"SessionGet{kind}TypeInfo", self._session, index)
        tensor = _api().ask("CastTypeInfoToTensorInfo", info)
        if not tensor:
            return "no tensor", []
        number = _api().ask("GetTensorElementType", tensor)
        sizes = (ctypes.c_int64 * _api().ask("GetDimensionsCount", tensor))()
        _api().call("GetDimensions", tensor, sizes, len(sizes))
        shape: list[int | str | None] = [None if size < 0 else size for size in sizes]
        known = BY_NUMBER.get(number)  # the runtime's numbers are ONNX's
        return known.name if known else f"tensor of type {number}", shape


# A process has one library and one environment: the runtime creates no second one.


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
    """Returns a tensor at the array's address. The caller keeps the array alive."""
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    arguments = (array.ctypes.data, array.nbytes, shape, array.ndim, BY_DTYPE[array.dtype].number)
    return _api().make("Value", "CreateTensorWithDataAsOrtValue", _host_memory(), *arguments)


def _session_options(threads: int) -> Handle:
    api = _api()
    options = api.make("SessionOptions", "CreateSessionOptions")
    api.call("SetIntraOpNumThreads", options, threads)
    api.call("SetInterOpNumThreads", options, 1)
    api.call("DisableMemPattern", options)  # shapes vary, and a pattern is kept for each
    api.call("SetSessionLogSeverityLevel", options, QUIET)
    for name, value in SESSION_SETTINGS.items():
        api.call("AddSessionConfigEntry", options, name.encode(), value.encode())
    return options


def _session(file: Path, threads: int, weights: SharedWeights | None) -> Handle:
    api, options = _api(), _session_options(threads)
    arguments, needs = (_environment(), os.fsencode(file), options), (_environment(),)
    if weights is None:
        with _in_huge_pages(MappedWeights().of(file)):
            return api.make("Session", "CreateSession", *arguments, needs=needs)
    for name, tensor in weights.tensors.items():
        api.call("AddInitializer", options, name.encode(), tensor)
    with _in_huge_pages(weights.arrays):
        session = api.make(
            "Session",
            "CreateSessionWithPrepackedWeightsContainer",
            *(*arguments, weights.packed),
            needs=(*needs, weights),
        )
    weights.mapped.forget()  # most of it was packed, and is not read again
    return session


@contextmanager
def _in_huge_pages(weights: dict[str, NDArray[Any]]) -> Iterator[None]:
    """Lets the runtime pack weights contiguously into huge pages, and returns what it frees to the
    system."""
    size = sum(array.nbytes for array in weights.values())
    try:
        with huge_pages(int(_PACKED * size)):
            yield
    finally:
        give_back()
