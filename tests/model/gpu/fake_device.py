"""A device without a GPU, and a graph and a decoder on it: a breach of what CUDA asks is `Misused`.

The memory knows what is reserved: a copy from or to anywhere else, or from memory that went back,
is an error, as it is where nothing was written yet. What is queued happens when somebody waits for
it and no earlier: so what is read or written over too early is seen. The graph runs a model whose
logits are a hash of the tokens that it finds in the keys and values of a row, where an earlier call
wrote them: so a wrong address, length or moved slot is a wrong token. A CUDA graph is a call whose
addresses and shapes were noted; it runs with these, in the thread that made it, whatever is bound
meanwhile.
"""

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from server.config import Device, DeviceKind
from server.model.gpu.bindings import Placed
from server.model.gpu.decode_ahead import TRUSTED
from server.model.gpu.decoder import DeviceDecoder
from tests.engine.fake_decoder import VOCABULARY, logits_after

CANDIDATES = 8
HEADS, HEAD_DIM = 2, 4
BFLOAT16 = 16
DEVICE = Device(DeviceKind.CUDA, 1)


class Misused(BaseException):
    """No `Exception`, so that no failed call hides it."""


class FakeBlock:
    def __init__(self, memory: "FakeMemory", nbytes: int) -> None:
        self._memory = memory
        self._array = np.zeros(nbytes, np.uint8)
        self.address = int(self._array.ctypes.data)
        self.nbytes = nbytes
        memory.reserved[self.address] = nbytes

    def __del__(self) -> None:
        # Queued, since this may run in the middle of anything, where other code must not.
        memory, address, array = self._memory, self.address, self._array

        def free() -> None:
            del memory.reserved[address]
            array[:] = 0xEE

        memory.later(free)


class FakeLanding:
    def __init__(self, memory: "FakeMemory", nbytes: int) -> None:
        self.array = np.zeros(nbytes, np.uint8)
        self._memory = memory
        self._last = 0

    def fetch(self, address: int) -> None:
        self._last = self._memory.later(lambda: self._memory.to_the_host(address, self.array))

    def wait(self) -> None:
        self._memory.settle(self._last)


class FakeMemory:
    """`server.model.gpu.memory.DeviceMemory`. A graph's calls are queued here, too."""

    device = DEVICE
    stream = 77

    def __init__(self, capacity: int = 2**30) -> None:
        self.reserved: dict[int, int] = {}
        self.to_host = 0
        """Bytes that were read."""
        self._capacity = capacity
        self._queue: list[Callable[[], None]] = []
        self._done = 0
        """How many of all that were ever queued."""

    @property
    def free_bytes(self) -> int:
        self.settle()
        return self._capacity - sum(self.reserved.values())

    def reserve(self, nbytes: int) -> FakeBlock:
        if nbytes > self.free_bytes:
            raise MemoryError(f"{nbytes} bytes")
        return FakeBlock(self, nbytes)

    def write(self, address: int, array: NDArray[np.generic], pitch: int = 0) -> None:
        if not array.flags.c_contiguous and not pitch:
            raise Misused("the array has gaps")
        self.later(lambda: self._write(address, array, pitch))

    def _write(self, address: int, array: NDArray[np.generic], pitch: int) -> None:
        for row, one in enumerate(array if pitch else [array]):
            place = address + row * pitch
            self.check(place, one.nbytes)
            data = one.tobytes()
            ctypes.memmove(place, data, len(data))

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        return np.zeros(nbytes, np.uint8)

    def landing(self, nbytes: int) -> FakeLanding:
        return FakeLanding(self, nbytes)

    def read(self, address: int, array: NDArray[np.generic]) -> None:
        self.settle()
        self.to_the_host(address, array)

    def to_the_host(self, address: int, array: NDArray[np.generic]) -> None:
        self.check(address, array.nbytes)
        ctypes.memmove(array.ctypes.data, address, array.nbytes)
        self.to_host += array.nbytes

    def copy(
        self, source: int, destination: int, *, rows: int, row_bytes: int, pitches: tuple[int, int]
    ) -> None:
        if min(pitches) < row_bytes:
            raise Misused("rows overlap")

        def copy() -> None:
            for row in range(rows):
                one, other = source + row * pitches[0], destination + row * pitches[1]
                self.check(one, row_bytes)
                self.check(other, row_bytes)
                ctypes.memmove(other, one, row_bytes)

        self.later(copy)

    def later(self, act: Callable[[], None]) -> int:
        """Queues it; how many there were until then, with this one."""
        self._queue.append(act)
        return self._done + len(self._queue)

    def settle(self, until: int | None = None) -> None:
        while self._queue and (until is None or self._done < until):
            self._done += 1
            self._queue.pop(0)()

    def check(self, address: int, nbytes: int) -> None:
        """That all of it was reserved as one block."""
        for start, size in self.reserved.items():
            if start <= address and address + nbytes <= start + size:
                return
        raise Misused(f"{nbytes} bytes at {address} are nobody's")

    def array(self, placed: Placed) -> NDArray[np.generic]:
        """What lies there, to read and to write."""
        nbytes = int(np.prod(placed.shape)) * placed.dtype.itemsize
        self.check(placed.address, nbytes)
        held = (ctypes.c_uint8 * nbytes).from_address(placed.address)
        return np.ctypeslib.as_array(held).view(placed.dtype).reshape(placed.shape)


@dataclass(frozen=True)
class Node:
    name: str
    type: str
    shape: list[int | str | None]


@dataclass
class FakeBinding:
    """`onnxruntime.IOBinding`."""

    memory: FakeMemory
    inputs: dict[str, Placed] = field(default_factory=dict)
    outputs: dict[str, Placed] = field(default_factory=dict)
    host: dict[str, Placed] = field(default_factory=dict)

    def bind_input(
        self,
        name: str,
        kind: str,
        index: int,
        dtype: type[np.generic] | int,
        shape: tuple[int, ...],
        address: int,
    ) -> None:
        if kind == "cpu":
            self.host[name] = Placed(address, dtype_of(dtype), shape)
            return
        self.inputs[name] = self._placed(kind, index, dtype, shape, address)

    def bind_output(
        self,
        name: str,
        kind: str,
        index: int,
        dtype: type[np.generic] | int,
        shape: tuple[int, ...],
        address: int,
    ) -> None:
        self.outputs[name] = self._placed(kind, index, dtype, shape, address)

    def _placed(
        self,
        kind: str,
        index: int,
        dtype: type[np.generic] | int,
        shape: tuple[int, ...],
        address: int,
    ) -> Placed:
        if (kind, index) != (DEVICE.kind.value, DEVICE.index):
            raise Misused(f"{kind}:{index} is another device")
        placed = Placed(address, dtype_of(dtype), shape)
        self.memory.array(placed)
        return placed


def dtype_of(element_type: type[np.generic] | int) -> np.dtype[np.generic]:
    """ONNX's 16 is bfloat16, for which NumPy has no type: here, integers of its size."""
    if isinstance(element_type, int):
        assert element_type == BFLOAT16
        return np.dtype(np.uint16)
    return np.dtype(element_type)


@dataclass
class FakeOptions:
    """`onnxruntime.RunOptions`."""

    cuda_graph: int | None = None
    terminate: bool = False


@dataclass(frozen=True)
class Captured:
    """A CUDA graph: nothing about it can change."""

    inputs: dict[str, Placed]
    outputs: dict[str, Placed]
    host: dict[str, list[int]]
    """Numbers that the graph takes on the host."""
    thread: int

    @property
    def keep(self) -> int:
        return self.host["num_logits_to_keep"][0]


def numbers(placed: Placed) -> list[int]:
    """Integers of the host."""
    count = max(int(np.prod(placed.shape)), 1)
    held = (ctypes.c_uint8 * (count * placed.dtype.itemsize)).from_address(placed.address)
    return [int(number) for number in np.ctypeslib.as_array(held).view(placed.dtype)]


class FakeSession:
    """An ONNX Runtime session with one layer."""

    def __init__(self, memory: FakeMemory, *, tells: bool = True) -> None:
        """`tells` is whether it has candidates among its outputs."""
        self.memory = memory
        self.captured: dict[int, Captured] = {}
        self.replays = 0
        self.calls: list[tuple[int, ...]] = []
        """Shapes of `input_ids`."""
        self._tells = tells

    def get_inputs(self) -> list[Node]:
        kv: list[int | str | None] = ["batch", HEADS, "capacity", HEAD_DIM]
        return [
            Node("input_ids", "tensor(int64)", ["batch", "sequence"]),
            Node("attention_mask", "tensor(int64)", ["batch", "total"]),
            Node("position_ids", "tensor(int64)", ["batch", "sequence"]),
            Node("past_key_values.0.key", "tensor(float)", kv),
            Node("past_key_values.0.value", "tensor(bfloat16)", kv),
        ]

    def get_overridable_initializers(self) -> list[Node]:
        return [Node("num_logits_to_keep", "tensor(int64)", [])]

    def get_outputs(self) -> list[Node]:
        logits = Node("logits", "tensor(float)", ["batch", "kept", VOCABULARY])
        told = [
            Node("candidate_logits", "tensor(float)", ["rows", CANDIDATES]),
            Node("candidate_ids", "tensor(int64)", ["rows", CANDIDATES]),
            Node("log_sum_exp", "tensor(float)", ["rows", 1]),
        ]
        return [logits, *(told if self._tells else [])]

    def io_binding(self) -> FakeBinding:
        return FakeBinding(self.memory)

    def run_with_iobinding(self, binding: FakeBinding, options: FakeOptions) -> None:
        if options.terminate:
            raise RuntimeError("Exiting due to terminate flag")
        number, here = options.cuda_graph, threading.get_ident()
        host = {name: numbers(placed) for name, placed in binding.host.items()}
        call = Captured(dict(binding.inputs), dict(binding.outputs), host, here)
        if number is not None:
            known = self.captured.setdefault(number, call)
            if known is not call:
                self.replays += 1
            if (known.thread, known.host) != (here, host):
                raise Misused("what a CUDA graph was made with is another")
            if (known.inputs, known.outputs) != (call.inputs, call.outputs):
                raise Misused("what is bound is not what the CUDA graph has")
            call = known
        self.memory.later(lambda: self._run(call))

    def _run(self, call: Captured) -> None:
        ids, mask, positions = (
            self.memory.array(call.inputs[name]).astype(np.int64)
            for name in ("input_ids", "attention_mask", "position_ids")
        )
        self.calls.append(ids.shape)
        keys, values = self._kv(call)
        rows = []
        for row, tokens in enumerate(ids):
            total = int(mask[row].sum())
            if not 0 < total <= min(mask.shape[1], keys.shape[2]):
                raise Misused(f"{total} tokens in a mask of {mask.shape[1]}")
            places = np.arange(total - len(tokens), total)
            if positions[row].tolist() != places.tolist():
                raise Misused(f"positions {positions[row]} of {places}")
            keys[row, :, places] = tokens[:, np.newaxis, np.newaxis]
            values[row, :, places] = tokens[:, np.newaxis, np.newaxis] + 1
            history = self._history(keys[row, :, :total], values[row, :, :total])
            ends = range(total - len(tokens) + 1, total + 1)
            rows += [logits_after(history[:end]) for end in ends][-call.keep :]
        self._give(call, np.stack(rows))

    def _kv(self, call: Captured) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        for kind in ("key", "value"):
            if call.outputs[f"present.0.{kind}"] != call.inputs[f"past_key_values.0.{kind}"]:
                raise Misused("past and present are not the same memory")
        keys, values = (
            self.memory.array(call.inputs[f"past_key_values.0.{kind}"]) for kind in ("key", "value")
        )
        return keys, values

    @staticmethod
    def _history(keys: NDArray[np.generic], values: NDArray[np.generic]) -> tuple[int, ...]:
        """The tokens that were written, if all heads agree."""
        tokens = keys[0, :, 0].astype(np.int64)
        same_keys = (keys == tokens[:, np.newaxis]).all()
        if not same_keys or not (values == tokens[:, np.newaxis] + 1).all():
            raise Misused("heads, keys and values are of different tokens")
        return tuple(tokens.tolist())

    def _give(self, call: Captured, logits: NDArray[np.float32]) -> None:
        place = self.memory.array(call.outputs["logits"])
        place[:] = logits.reshape(place.shape)
        if not self._tells:
            return
        ids = np.argsort(-logits, kind="stable")[:, :CANDIDATES]
        self.memory.array(call.outputs["candidate_ids"])[:] = ids
        largest = np.take_along_axis(logits, ids, axis=1)
        self.memory.array(call.outputs["candidate_logits"])[:] = largest
        sums = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        self.memory.array(call.outputs["log_sum_exp"])[:] = sums


class FakeDevice:
    """A decoder on a fake device, and that device."""

    session_type = FakeSession

    def __init__(
        self,
        *,
        slots: int = 5,
        context: int = 64,
        graphs: bool = True,
        tells: bool = True,
        kv_bytes: int | None = None,
        always_ahead: bool = False,
    ) -> None:
        self.memory = FakeMemory()
        self.session = self.session_type(self.memory, tells=tells)
        self.decoder = DeviceDecoder(
            self.session,
            self.memory,
            FakeOptions,
            name="fake",
            slots=slots,
            context=context,
            cuda_graphs=graphs,
            kv_bytes=kv_bytes,
            ahead_threshold=-1 if always_ahead else TRUSTED,
        )
        self.decoder.warm_up()
