"""The interface of a layout of keys and values on a device: their owner, and calls over them.

There are two layouts, slots (`slot_kv`, `slot_calls`) and pages (`paged_kv`, `paged_calls`); the
graph decides which. Knows neither.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from server.model.gpu.bindings import Binding, DeviceSession
from server.model.gpu.memory import Block, DeviceMemory
from server.model.gpu.rows import FLOAT_BYTES, DeviceRows
from server.model.graph_interface import GraphInterface
from server.model.tensor_types import Tokens

NewRunOptions = Callable[[int | None], Any]
"""Makes run options for the CUDA graph of that number, or with None for calls outside of any."""
TURNS = 3
"""Calls of one kind that can be queued at the same time: a wrong guess, the requested call behind
it, and the next one, queued early."""


@dataclass(frozen=True, slots=True)
class DeviceGraph:
    """A graph on a device, and the device's memory."""

    session: DeviceSession
    memory: DeviceMemory
    interface: GraphInterface
    options: NewRunOptions

    def binding(self) -> Binding:
        return Binding(self.session, self.memory.device)

    def logits(self, rows: int) -> Block:
        """Reserves memory for the logits of `rows` rows."""
        return self.memory.reserve(FLOAT_BYTES * rows * self.interface.vocabulary_size)


@dataclass(frozen=True, slots=True)
class DeviceCall:
    """A call whose inputs are written. It can run once."""

    binding: Binding
    options: Any
    rows: DeviceRows
    count: int
    """How many of the rows are in use, from the first on; the others are padding."""


class SavedDeviceKv(Protocol):
    """See `SavedKv` of `server.engine.decoder`."""

    def load(self, slot: int, length: int) -> None:
        """See `SavedKv`."""


class KvOwner(Protocol):
    """Keys and values of slots, in memory of the device. For `move`, `copy`, `save` and `release`
    see `Decoder` of `server.engine.decoder`."""

    @property
    def nbytes(self) -> int:
        """Bytes of all of them, reserved at the start."""

    @property
    def token_bytes(self) -> int:
        """Bytes of one token of one sequence."""

    def move(self, source: int, destination: int, length: int) -> None:
        """See `Decoder`."""

    def copy(self, source: int, destination: int, length: int) -> None:
        """See `Decoder`."""

    def save(self, slot: int, length: int) -> SavedDeviceKv:
        """See `Decoder`."""

    def release(self, slot: int) -> None:
        """See `Decoder`."""


class DeviceCalls(Protocol):
    """Calls over the slots of a `KvOwner`, where they record what each slot will hold."""

    def first(self) -> Iterator[DeviceCall]:
        """Yields a decode call of each kind over free slots, in which they leave nothing, in the
        order in which they are to be made."""

    def prompt(self, slot: int, past: int, tokens: Tokens, keep: int) -> DeviceCall:
        """Returns a call over `tokens` [n] after the slot's first `past` ones, with rows for the
        last `keep` of them; 0 keeps all."""

    def decode(self, first_slot: int, tokens: Sequence[int], pasts: Sequence[int]) -> DeviceCall:
        """Returns a call over a token for each of neighbouring slots, after its first `pasts`."""

    def follow(self, last: DeviceRows, first_slot: int, pasts: Sequence[int]) -> DeviceCall | None:
        """Returns a call over the most probable token of each of the `last` rows, which only the
        device knows. These are the rows of a decode call over the same slots. None if there is no
        such call, or if a slot would first have to take memory."""


def batches(largest: int) -> list[int]:
    """Returns the sizes that calls come in: the powers of 2 below `largest`, and `largest`."""
    return [*(1 << power for power in range((largest - 1).bit_length())), largest]
