"""Calls over slots, with inputs in buffers that never move.

Knows the graph's inputs and the few numbers that a call changes; does not know slots' owners.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from server.model.gpu.bindings import Binding, Placed
from server.model.gpu.layout import TURNS, DeviceCall, DeviceGraph, batches
from server.model.gpu.memory import Block, DeviceMemory
from server.model.gpu.rows import DeviceRows, PromptRows
from server.model.gpu.slot_kv import DeviceKv
from server.model.graph_interface import GraphInterface
from server.model.tensor_types import Tokens

_INT64 = np.dtype(np.int64)
_MAX_RUNS = 16
"""Runs of neighbouring slots between drafting ones, for which buffers are kept. With many slots
there are thousands of different runs, and each has a mask as wide as the context for each row."""


class SlotCalls:
    """All calls over the slots of one `DeviceKv`.

    Sequences decode in calls of a few fixed numbers of rows, each with its own buffers, so that a
    CUDA graph can be captured for each. Prompts run outside of graphs.
    """

    def __init__(self, graph: DeviceGraph, kv: DeviceKv, *, cuda_graphs: bool) -> None:
        self._graph = graph
        self._kv = kv
        self._cuda_graphs = cuda_graphs
        self._logits = graph.logits(kv.slots)
        self._prompts = PromptCalls(graph, kv)
        self._plain = graph.options(None)
        self._decode: dict[int, DecodeCalls] = {}
        """By the number of rows, from the first slot on."""
        self._runs: dict[tuple[int, int], DecodeCalls] = {}
        """By the first slot and the number of rows."""

    def first(self) -> Iterator[DeviceCall]:
        """Yields the largest first, so that the others can use its memory."""
        for rows in reversed(batches(self._kv.slots)):
            yield self._from_the_first(rows).write([], [])

    def prompt(self, slot: int, past: int, tokens: Tokens, keep: int) -> DeviceCall:
        self._kv.held[slot] = past + len(tokens)
        return self._prompts.write(slot, past, tokens, keep)

    def decode(self, first_slot: int, tokens: Sequence[int], pasts: Sequence[int]) -> DeviceCall:
        count = len(tokens)
        self._kv.held[first_slot : first_slot + count] = [past + 1 for past in pasts]
        if first_slot:
            return self._run(first_slot, count).write(tokens, pasts)
        return self._from_the_first(count).write(tokens, pasts)

    def follow(self, last: DeviceRows, first_slot: int, pasts: Sequence[int]) -> DeviceCall | None:
        if first_slot:
            return None  # between drafts: what comes next is no decode call
        self._kv.held[: len(pasts)] = [past + 1 for past in pasts]
        return self._from_the_first(len(pasts)).follow(last, pasts)

    def _from_the_first(self, count: int) -> "DecodeCalls":
        """Returns calls over the first slots, with rows for `count` sequences."""
        rows = next(size for size in batches(self._kv.slots) if size >= count)
        if rows not in self._decode:
            options = self._graph.options(rows) if self._cuda_graphs else self._plain
            self._decode[rows] = self._new(0, rows, options)
        return self._decode[rows]

    def _run(self, first_slot: int, rows: int) -> "DecodeCalls":
        """Returns calls over a run of slots between drafting ones. There are too
        many for a CUDA graph each. The oldest can be dropped: its rows have been read."""
        if (first_slot, rows) not in self._runs:
            if len(self._runs) >= _MAX_RUNS:
                del self._runs[next(iter(self._runs))]
            self._runs[first_slot, rows] = self._new(first_slot, rows, self._plain)
        return self._runs[first_slot, rows]

    def _new(self, first_slot: int, rows: int, options: Any) -> "DecodeCalls":
        return DecodeCalls(
            self._graph,
            self._kv,
            self._logits,
            first_slot=first_slot,
            rows=rows,
            options=options,
        )


def bound(graph: DeviceGraph, kv: DeviceKv, slot: int, rows: int) -> Binding:
    """Binds the keys and values of `rows` neighbouring slots as both past and present."""
    binding = graph.binding()
    for buffer in kv.buffers:
        pair = buffer.shape
        shape = (rows, pair.heads, kv.capacity, pair.head_dim)
        placed = Placed(buffer.address(slot), pair.dtype, shape, pair.onnx_type)
        binding.input(pair.past, placed)
        binding.output(pair.present, placed)
    return binding


class CallInputs:
    """Tokens, attention mask and positions of calls [rows, n] with rows * n tokens at most.

    The graph uses only the sum of a mask's row and its width. So a row's first number is its count
    of tokens, all others are 0, and a call writes one number a row, however many tokens it holds.
    (With ones for all tokens, it would write all of them, or one more at another position a row.)
    """

    def __init__(
        self, memory: DeviceMemory, graph: GraphInterface, *, rows: int, tokens: int, width: int
    ) -> None:
        """`width` is the largest width of a mask."""
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
        """Binds them for calls [rows, n] with masks of `width`: the largest if there are several
        rows, since each begins that far from the one before."""
        rows, _ = shape
        for name, size in (
            ("input_ids", shape),
            ("attention_mask", (rows, width)),
            ("position_ids", shape),
        ):
            if name in self._fed:
                binding.input(name, Placed(self._blocks[name].address, _INT64, size))
        if "num_logits_to_keep" in self._fed:
            binding.host_input("num_logits_to_keep", self._kept)

    @property
    def tokens_address(self) -> int:
        """Where calls read the tokens."""
        return self._blocks["input_ids"].address

    def write(self, tokens: Tokens, counts: Tokens, positions: Tokens, keep: int) -> None:
        """Writes the next call's inputs; `counts` [rows] are each row's tokens, new ones too."""
        self._kept[()] = keep
        self._memory.write(self.tokens_address, tokens)
        self.write_places(counts, positions)

    def write_places(self, counts: Tokens, positions: Tokens) -> None:
        """Writes masks and positions, for a call whose tokens are there already."""
        if mask := self._blocks.get("attention_mask"):
            self._memory.write(mask.address, counts, self._width * _INT64.itemsize)
        if block := self._blocks.get("position_ids"):
            self._memory.write(block.address, positions)


class DecodeCalls:
    """Calls [rows, 1] over the slots from `first_slot` on: the same addresses and shapes each time,
    so that a CUDA graph of one can be replayed.

    Rows beyond the sequences are padding. They write where nobody reads: right behind what their
    slot holds, where its own next token will be written.
    """

    def __init__(
        self,
        graph: DeviceGraph,
        kv: DeviceKv,
        logits: Block,
        *,
        first_slot: int,
        rows: int,
        options: Any,
    ) -> None:
        """`options` are the runtime's for each call."""
        self._options = options
        self._kv = kv
        self._slots = range(first_slot, first_slot + rows)
        memory, interface = graph.memory, graph.interface
        self._turns = itertools.cycle([HostInputs(memory, rows) for _ in range(TURNS)])
        self._inputs = CallInputs(memory, interface, rows=rows, tokens=rows, width=kv.capacity)
        self._rows = DeviceRows(memory, interface, rows, logits)
        self._binding = bound(graph, kv, first_slot, rows)
        self._inputs.bind(self._binding, (rows, 1), kv.capacity)
        self._rows.bind(self._binding, (rows, 1))

    def write(self, tokens: Sequence[int], pasts: Sequence[int]) -> DeviceCall:
        """Writes a call over the first rows; the others are padding."""
        live, host = len(tokens), self._places(pasts)
        host.tokens[:live] = tokens
        self._inputs.write(host.tokens, host.counts, host.positions, keep=1)
        return DeviceCall(self._binding, self._options, self._rows, live)

    def follow(self, last: DeviceRows, pasts: Sequence[int]) -> DeviceCall:
        """Writes a call over the most probable tokens of the last call's rows."""
        host = self._places(pasts)
        last.copy_best(self._inputs.tokens_address)
        self._inputs.write_places(host.counts, host.positions)
        return DeviceCall(self._binding, self._options, self._rows, len(pasts))

    def _places(self, pasts: Sequence[int]) -> "HostInputs":
        live, last, host = len(pasts), self._kv.capacity - 1, next(self._turns)
        host.positions[:live] = pasts
        host.positions[live:] = [min(self._kv.held[slot], last) for slot in self._slots[live:]]
        np.add(host.positions, 1, out=host.counts)
        return host


class HostInputs:
    """Inputs of one call on the host, [rows] each; the device copies them when its turn comes."""

    def __init__(self, memory: DeviceMemory, rows: int) -> None:
        self.tokens, self.counts, self.positions = (
            memory.pinned(_INT64.itemsize * rows).view(np.int64) for _ in range(3)
        )


class PromptCalls:
    """Calls [1, n] over one slot, of any length."""

    def __init__(self, graph: DeviceGraph, kv: DeviceKv) -> None:
        self._graph = graph
        self._kv = kv
        self._options = graph.options(None)
        memory, capacity = graph.memory, kv.capacity
        self._inputs = CallInputs(memory, graph.interface, rows=1, tokens=capacity, width=capacity)
        self._bindings: dict[int, Binding] = {}
        self._rows = PromptRows(memory, graph.interface)
        nothing = np.zeros(0, np.int64)
        self._sent = (nothing, nothing, nothing)
        """The last call's inputs, kept alive: its caller waits for its end."""

    def write(self, slot: int, past: int, tokens: Tokens, keep: int) -> DeviceCall:
        """Writes a call over `tokens` after the slot's first `past` ones."""
        count, total = len(tokens), past + len(tokens)
        if slot not in self._bindings:
            self._bindings[slot] = bound(self._graph, self._kv, slot, rows=1)
        binding = self._bindings[slot]
        self._inputs.bind(binding, (1, count), total)
        positions = np.arange(past, total, dtype=np.int64)
        self._sent = (np.ascontiguousarray(tokens), np.array([total]), positions)
        self._inputs.write(*self._sent, keep)
        rows = self._rows.of(count, keep)
        rows.bind(binding, (1, rows.count))
        return DeviceCall(binding, self._options, rows, rows.count)
