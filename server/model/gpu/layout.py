"""What a decoder on a device asks of a layout of keys and values: an owner of them, and calls.

There are two, slots (`slot_kv`, `slot_calls`) and pages (`paged_kv`, `paged_calls`); the graph
decides. Knows neither.
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
"""The runtime's options for calls that one CUDA graph, by its number, is made of, or for others."""
TURNS = 3
"""Calls of one kind that can be queued and not have run: one that is asked for, one that was made
before it and that nobody asked for, and one that is made ahead."""


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
        """Room for so many rows."""
        return self.memory.reserve(FLOAT_BYTES * rows * self.interface.vocabulary_size)


@dataclass(frozen=True, slots=True)
class DeviceCall:
    """Its inputs are written; it can run, once."""

    binding: Binding
    options: Any
    rows: DeviceRows
    count: int
    """How many of the rows, from the first on, are about somebody."""


class SavedDeviceKv(Protocol):
    """What `KvOwner.save` keeps, as long as this object lives."""

    def load(self, slot: int, length: int) -> None:
        """Puts the first `length` tokens into a free slot."""


class KvOwner(Protocol):
    """Keys and values of numbered slots, in memory of the device."""

    @property
    def nbytes(self) -> int:
        """Of all of them, reserved from the start."""

    @property
    def token_bytes(self) -> int:
        """Of one token of one sequence."""

    def move(self, source: int, destination: int, length: int) -> None:
        """Takes the first `length` tokens to a free slot."""

    def copy(self, source: int, destination: int, length: int) -> None:
        """Gives the first `length` tokens to a free slot, too."""

    def save(self, slot: int, length: int) -> SavedDeviceKv:
        """Raises `MemoryError`."""

    def release(self, slot: int) -> None:
        """What the slot holds is no longer needed."""


class DeviceCalls(Protocol):
    """Calls over the slots of an owner, which hears from them what slots come to hold."""

    def first(self) -> Iterator[DeviceCall]:
        """Calls over free slots that leave nothing there: one of each kind that decodes, in the
        order in which they are to be made."""

    def prompt(self, slot: int, past: int, tokens: Tokens, keep: int) -> DeviceCall:
        """Over `tokens` [n] after the slot's first `past` ones, with rows for the last `keep` of
        them; 0 keeps all."""

    def decode(self, first_slot: int, tokens: Sequence[int], pasts: Sequence[int]) -> DeviceCall:
        """Over one token for each of neighbouring slots, after the `pasts` first ones of each."""

    def follow(self, last: DeviceRows, first_slot: int, pasts: Sequence[int]) -> DeviceCall | None:
        """Over the most probable token of each of the `last` rows, those of a decode call over the
        same slots, which only the device knows; None where there is no such call, or no memory that
        was given for it."""


def batches(slots: int) -> list[int]:
    """Sizes that calls come in: the powers of 2 below the largest, and that."""
    return [*(1 << power for power in range((slots - 1).bit_length())), slots]
