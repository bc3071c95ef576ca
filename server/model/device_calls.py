"""The calls that a decoder on a device makes, with inputs in buffers that never move.

Knows the graph's inputs and how few numbers of them are new in a call; does not know slots' owners.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.model.bindings import Binding, DeviceSession, Placed
from server.model.device_kv import DeviceKv
from server.model.device_memory import Block, DeviceMemory
from server.model.device_rows import DeviceRows
from server.model.graph_interface import GraphInterface

Tokens = NDArray[np.int64]
_INT64 = np.dtype(np.int64)
_FLOAT_BYTES = 4


def bound(session: DeviceSession, kv: DeviceKv, slot: int, rows: int) -> Binding:
    """A binding with the keys and values of `rows` neighbouring slots as both past and present."""
    binding = Binding(session, kv.memory.device)
    for buffer in kv.buffers:
        of = buffer.shape
        shape = (rows, of.heads, kv.capacity, of.head_dim)
        placed = Placed(buffer.address(slot), of.dtype, shape, of.onnx_type)
        binding.input(of.past, placed)
        binding.output(of.present, placed)
    return binding


class CallInputs:
    """Tokens, attention mask and positions of calls [rows, n] with rows * n tokens at most.

    Of the mask the graph takes a row's sum and the width, and nothing else: so a row's first number
    is its count of tokens, all others are 0, and a call writes one number for a row whatever it
    holds. (Ones for all tokens would be a number for each, or one more at another place for each.)
    """

    def __init__(
        self, memory: DeviceMemory, graph: GraphInterface, *, rows: int, tokens: int, width: int
    ) -> None:
        """`width` is that of the widest mask."""
        self._memory = memory
        self._fed = graph.fed
        self._width = width
        self._blocks: dict[str, Block] = {
            name: memory.reserve(_INT64.itemsize * size)
            for name, size in (
                ("input_ids", tokens),
                ("attention_mask", rows * width),
                ("position_ids", tokens),
            )
            if name in graph.fed
        }
        self._kept = np.zeros((), np.int64)

    def bind(self, binding: Binding, shape: tuple[int, int], width: int) -> None:
        """For calls [rows, n], whose masks are so wide: all rows' masks if there are several."""
        rows, _ = shape
        for name, of in (
            ("input_ids", shape),
            ("attention_mask", (rows, width)),
            ("position_ids", shape),
        ):
            if name in self._fed:
                binding.input(name, Placed(self._blocks[name].address, _INT64, of))
        if "num_logits_to_keep" in self._fed:
            binding.host_input("num_logits_to_keep", self._kept)

    def write(self, tokens: Tokens, counts: Tokens, positions: Tokens, keep: int) -> None:
        """For the next call; `counts` [rows] are the tokens of each row, with the new ones."""
        self._kept[()] = keep
        self._memory.write(self._blocks["input_ids"].address, tokens)
        if mask := self._blocks.get("attention_mask"):
            self._memory.write(mask.address, counts, self._width * _INT64.itemsize)
        if place := self._blocks.get("position_ids"):
            self._memory.write(place.address, positions)
        self._memory.settle()


class DecodeCalls:
    """Calls [rows, 1] over the slots from `first_slot` on: the same addresses and shapes each time,
    so that a CUDA graph of one can be replayed.

    Fewer sequences than rows leave rows over. These write where nobody reads: behind what their
    slot holds, which is where its own next token will come to lie.
    """

    def __init__(
        self,
        session: DeviceSession,
        graph: GraphInterface,
        kv: DeviceKv,
        logits: Block,
        *,
        first_slot: int,
        rows: int,
        options: Any,
    ) -> None:
        """`options` are the runtime's for each call."""
        self.options = options
        self._kv = kv
        self._slots = range(first_slot, first_slot + rows)
        self._tokens = np.zeros((rows, 1), np.int64)
        self._pasts = np.zeros((rows, 1), np.int64)
        self._inputs = CallInputs(kv.memory, graph, rows=rows, tokens=rows, width=kv.capacity)
        self.rows = DeviceRows(kv.memory, graph, rows, logits)
        self.binding = bound(session, kv, first_slot, rows)
        self._inputs.bind(self.binding, (rows, 1), kv.capacity)
        self.rows.bind(self.binding, (rows, 1))

    def write(self, tokens: Sequence[int], pasts: Sequence[int]) -> None:
        """For the first rows; the others are left over."""
        live, last = len(tokens), self._kv.capacity - 1
        self._tokens[:live, 0] = tokens
        self._pasts[:live, 0] = pasts
        self._pasts[live:, 0] = [min(self._kv.held[slot], last) for slot in self._slots[live:]]
        self._inputs.write(self._tokens, self._pasts[:, 0] + 1, self._pasts, keep=1)


class PromptCalls:
    """Calls [1, n] over one slot, of any length."""

    def __init__(
        self, session: DeviceSession, graph: GraphInterface, kv: DeviceKv, options: Any
    ) -> None:
        self.options = options
        self._session = session
        self._graph = graph
        self._kv = kv
        most = kv.capacity
        self._inputs = CallInputs(kv.memory, graph, rows=1, tokens=most, width=most)
        self._bindings: dict[int, Binding] = {}
        self._rows: dict[int, DeviceRows] = {}
        """By how many there are. They share the place of the logits."""
        self._room = 0

    def write(self, slot: int, past: int, tokens: Tokens, keep: int) -> tuple[Binding, DeviceRows]:
        """For `tokens` after the slot's first `past` ones: what is bound for the call, and where it
        leaves the rows of the last `keep` tokens, or of all where that is 0."""
        count, total = len(tokens), past + len(tokens)
        if slot not in self._bindings:
            self._bindings[slot] = bound(self._session, self._kv, slot, rows=1)
        binding = self._bindings[slot]
        self._inputs.bind(binding, (1, count), total)
        positions = np.arange(past, total, dtype=np.int64)
        self._inputs.write(np.ascontiguousarray(tokens), np.array([total]), positions, keep)
        given = keep or count if self._graph.keeps_last else count
        rows = self._rows_of(given)
        rows.bind(binding, (1, given))
        return binding, rows

    def _rows_of(self, count: int) -> DeviceRows:
        memory = self._kv.memory
        if count > self._room:
            self._rows.clear()
            self._logits = memory.reserve(_FLOAT_BYTES * self._graph.vocabulary_size * count)
            self._room = count
        if count not in self._rows:
            self._rows[count] = DeviceRows(memory, self._graph, count, self._logits)
        return self._rows[count]
