"""Keys and values on a device: slots at addresses that never change.

Knows slots and how many tokens each holds; does not know what runs on them.
"""

from collections.abc import Sequence

from server.model.gpu.memory import Block, DeviceMemory
from server.model.kv_shape import KvShape


class DeviceKvBuffer:
    """Keys or values of one layer, [slots, heads, capacity, head_dim]."""

    def __init__(self, memory: DeviceMemory, shape: KvShape, slots: int, capacity: int) -> None:
        """Raises `MemoryError`."""
        self.shape = shape
        self._slot_bytes = capacity * shape.token_bytes
        self._capacity = capacity
        self._memory = memory
        self._block: Block = memory.reserve(slots * self._slot_bytes)

    @property
    def nbytes(self) -> int:
        return self._block.nbytes

    def address(self, slot: int) -> int:
        """Where the slot begins; the slots after it follow without a gap."""
        return self._block.address + slot * self._slot_bytes

    def copy(self, source: int, destination: int, length: int) -> None:
        """Copies the first `length` positions of one slot to another."""
        pitches = (self._capacity, self._capacity)
        self._copy(self.address(source), self.address(destination), length, pitches)

    def save(self, slot: int, length: int, address: int) -> None:
        """Copies the first `length` positions of a slot to an address, side by side."""
        self._copy(self.address(slot), address, length, (self._capacity, length))

    def load(self, address: int, saved: int, slot: int, length: int) -> None:
        """Copies the first `length` of `saved` positions, as `save` left them, into a slot."""
        self._copy(address, self.address(slot), length, (saved, self._capacity))

    def _copy(self, source: int, destination: int, length: int, pitches: tuple[int, int]) -> None:
        """Copies `length` positions of each head; `pitches` are those of heads, in positions."""
        size = self.shape.head_dim * self.shape.dtype.itemsize
        self._memory.copy(
            source,
            destination,
            rows=self.shape.heads,
            row_bytes=length * size,
            pitches=(pitches[0] * size, pitches[1] * size),
        )


class DeviceKv:
    """`KvOwner` of slots: the buffers of all layers, and how much their slots hold."""

    def __init__(
        self, memory: DeviceMemory, shapes: Sequence[KvShape], *, slots: int, capacity: int
    ) -> None:
        """Raises `MemoryError`."""
        self.memory = memory
        self.slots = slots
        self.capacity = capacity
        self.buffers = [DeviceKvBuffer(memory, shape, slots, capacity) for shape in shapes]
        self.held = [0] * slots
        """At least as many tokens as each slot still needs of those that were written to it."""

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.buffers)

    @property
    def token_bytes(self) -> int:
        """Bytes of one token of one sequence."""
        return sum(buffer.shape.token_bytes for buffer in self.buffers)

    def copy(self, source: int, destination: int, length: int) -> None:
        """See `Decoder`."""
        for buffer in self.buffers:
            buffer.copy(source, destination, length)
        self.held[destination] = length

    def move(self, source: int, destination: int, length: int) -> None:
        """See `Decoder`."""
        self.copy(source, destination, length)
        self.held[source] = 0

    def save(self, slot: int, length: int) -> "SavedSlot":
        """See `Decoder`."""
        return SavedSlot(self, slot, length)

    def release(self, slot: int) -> None:
        """See `Decoder`. The slot's memory stays reserved."""
        self.held[slot] = 0


class SavedSlot:
    """A copy of the first `length` tokens of a slot, on the same device."""

    def __init__(self, kv: DeviceKv, slot: int, length: int) -> None:
        self._kv = kv
        self._length = length
        self._block = kv.memory.reserve(length * kv.token_bytes)
        for buffer, address in self._parts():
            buffer.save(slot, length, address)

    def load(self, slot: int, length: int) -> None:
        """See `SavedKv` of `server.engine.decoder`."""
        for buffer, address in self._parts():
            buffer.load(address, self._length, slot, length)
        self._kv.held[slot] = length

    def _parts(self) -> list[tuple[DeviceKvBuffer, int]]:
        parts, address = [], self._block.address
        for buffer in self._kv.buffers:
            parts.append((buffer, address))
            address += self._length * buffer.shape.token_bytes
        return parts
