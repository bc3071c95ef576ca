"""Calls over pages: tokens of any number of sequences, one sequence after the other.

Knows the inputs of ONNX Runtime's PagedAttention; does not know how pages are given out.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.model.gpu.bindings import Binding, Placed
from server.model.gpu.layout import TURNS, DeviceCall, DeviceGraph, batches
from server.model.gpu.memory import Block, DeviceMemory
from server.model.gpu.paged_kv import PagedKv
from server.model.gpu.rows import DeviceRows, PromptRows
from server.model.kv_shape import pages_for
from server.model.tensor_types import Tokens

Integers = NDArray[np.int32]
MAX_ROWS = 256
"""Limit of a call: the operator adds up lengths in one block of 256 threads (ONNX Runtime 1.31)."""
_INT64, _INT32 = np.dtype(np.int64), np.dtype(np.int32)


class PagedCalls:
    """All calls over the slots of one `PagedKv`.

    Which pages a slot has is part of a call's inputs, so that a CUDA graph serves any slots. It
    fixes only the number of rows, and that of the longest sequence's pages: both come in a few
    sizes, and there is a graph for each pair.
    """

    def __init__(self, graph: DeviceGraph, kv: PagedKv, *, cuda_graphs: bool) -> None:
        self._graph = graph
        self._kv = kv
        self._cuda_graphs = cuda_graphs
        self._logits = graph.logits(kv.slots)
        self._prompts = PagedPrompts(graph, kv)
        self._inputs: dict[int, PagedInputs] = {}
        """By the number of rows."""
        self._decode: dict[tuple[int, int], PagedDecode] = {}
        """By the number of rows and that of pages."""

    def first(self) -> Iterator[DeviceCall]:
        """Yields the largest first, so that the others can use its memory."""
        for rows in reversed(batches(self._kv.slots)):
            for pages in reversed(batches(self._kv.slot_pages)):
                yield self._calls(rows, pages).write([], [], [])

    def prompt(self, slot: int, past: int, tokens: Tokens, keep: int) -> DeviceCall:
        self._kv.open(slot, past, past + len(tokens))
        return self._prompts.write(self._kv.tables[slot], past, tokens, keep)

    def decode(self, first_slot: int, tokens: Sequence[int], pasts: Sequence[int]) -> DeviceCall:
        for slot, past in enumerate(pasts, first_slot):
            self._kv.open(slot, past, past + 1)
        return self._over(pasts).write(tokens, pasts, self._tables(first_slot, len(pasts)))

    def follow(self, last: DeviceRows, first_slot: int, pasts: Sequence[int]) -> DeviceCall | None:
        if any(past % self._kv.page_tokens == 0 for past in pasts):
            return None  # a page would have to be taken, and there may be none
        return self._over(pasts).follow(last, pasts, self._tables(first_slot, len(pasts)))

    def _over(self, pasts: Sequence[int]) -> "PagedDecode":
        return self._calls(len(pasts), max(pasts) // self._kv.page_tokens + 1)

    def _tables(self, first_slot: int, count: int) -> Sequence[Sequence[int]]:
        return self._kv.tables[first_slot : first_slot + count]

    def _calls(self, count: int, longest: int) -> "PagedDecode":
        """Returns calls of rows for `count` sequences, with a table for `longest` pages of each."""
        rows = next(size for size in batches(self._kv.slots) if size >= count)
        pages = next(size for size in batches(self._kv.slot_pages) if size >= longest)
        if rows not in self._inputs:
            self._inputs[rows] = PagedInputs(
                self._graph.memory, rows=rows, tokens=rows, pages=self._kv.slot_pages
            )
        if (rows, pages) not in self._decode:
            number = len(self._decode) if self._cuda_graphs else None
            self._decode[rows, pages] = PagedDecode(
                self._graph,
                self._kv,
                self._inputs[rows],
                self._logits,
                rows=rows,
                pages=pages,
                options=self._graph.options(number),
            )
        return self._decode[rows, pages]


class PagedInputs:
    """Tokens, lengths and pages of calls over `rows` rows, in buffers that never move.

    Lengths and the table of pages lie side by side, so that one copy writes them; the table comes
    last, since it may be narrower than there is room for.
    """

    def __init__(self, memory: DeviceMemory, *, rows: int, tokens: int, pages: int) -> None:
        """There is room for `tokens` of all rows together, and `pages` of each."""
        self._memory = memory
        self._rows = rows
        self._ids: Block = memory.reserve(_INT64.itemsize * tokens)
        self._places_block: Block = memory.reserve(_INT32.itemsize * (2 * rows + 1 + rows * pages))

    def bind(self, binding: Binding, tokens: int, pages: int) -> None:
        """Binds them for calls over `tokens` tokens, with a table of `pages` pages a row."""
        binding.input("input_ids", Placed(self._ids.address, _INT64, (tokens,)))
        rows, address = self._rows, self._places_block.address
        for name, shape in (
            ("cumulative_sequence_lengths", (rows + 1,)),
            ("past_sequence_lengths", (rows,)),
            ("block_table", (rows, pages)),
        ):
            binding.input(name, Placed(address, _INT32, shape))
            address += _INT32.itemsize * shape[0]

    @property
    def tokens_address(self) -> int:
        """Where calls read the tokens."""
        return self._ids.address

    def write(self, tokens: Tokens, places: Integers) -> None:
        """Writes the next call's inputs. `places` are the offset in the tokens at which each row
        begins and the last one ends [rows + 1], the past length of each [rows], and the table."""
        self._memory.write(self._ids.address, tokens)
        self.write_places(places)

    def write_places(self, places: Integers) -> None:
        """Writes all but the tokens, for a call whose tokens are there already."""
        self._memory.write(self._places_block.address, places)


class PagedDecode:
    """Calls [rows] over any slots whose longest needs a table of `pages` pages: the same addresses
    and shapes each time, so that a CUDA graph of one can be replayed.

    Rows beyond the sequences are padding. They have no past, and write to the spare page.
    """

    def __init__(
        self,
        graph: DeviceGraph,
        kv: PagedKv,
        inputs: PagedInputs,
        logits: Block,
        *,
        rows: int,
        pages: int,
        options: Any,
    ) -> None:
        """`options` are the runtime's for each call."""
        self._inputs = inputs
        self._spare = kv.spare
        self._options = options
        self._rows = DeviceRows(graph.memory, graph.interface, rows, logits)
        self._binding = bound(graph, kv)
        self._turns = itertools.cycle([HostPlaces(graph.memory, rows, pages) for _ in range(TURNS)])
        self._bounds = _bounds(1, pages * kv.page_tokens, _fewer(kv, pages) * kv.page_tokens + 1)
        self._keep = np.array(rows, np.int64)
        inputs.bind(self._binding, rows, pages)
        self._rows.bind(self._binding, (rows,))
        bind_host(graph, self._binding, self._bounds, self._keep)

    def write(
        self, tokens: Sequence[int], pasts: Sequence[int], tables: Sequence[Sequence[int]]
    ) -> DeviceCall:
        """Writes a call over the first rows; the others are padding."""
        live, host = len(tokens), self._places(pasts, tables)
        host.tokens[:live] = tokens
        self._inputs.write(host.tokens, host.all)
        return DeviceCall(self._binding, self._options, self._rows, live)

    def follow(
        self, last: DeviceRows, pasts: Sequence[int], tables: Sequence[Sequence[int]]
    ) -> DeviceCall:
        """Writes a call over the most probable tokens of the last call's rows."""
        host = self._places(pasts, tables)
        last.copy_best(self._inputs.tokens_address)
        self._inputs.write_places(host.all)
        return DeviceCall(self._binding, self._options, self._rows, len(pasts))

    def _places(self, pasts: Sequence[int], tables: Sequence[Sequence[int]]) -> "HostPlaces":
        live, host = len(pasts), next(self._turns)
        host.pasts[:live] = pasts
        host.pasts[live:] = 0
        _fill(host.table, tables, self._spare)
        return host


class HostPlaces:
    """Inputs of one decode call on the host; the device copies them when its turn comes."""

    def __init__(self, memory: DeviceMemory, rows: int, pages: int) -> None:
        self.tokens = memory.pinned(_INT64.itemsize * rows).view(np.int64)
        size = rows + 1 + rows + rows * pages
        self.all: Integers = memory.pinned(_INT32.itemsize * size).view(np.int32)
        ends, self.pasts, table = np.split(self.all, [rows + 1, 2 * rows + 1])
        ends[:] = np.arange(rows + 1)
        self.table = table.reshape(rows, pages)


class PagedPrompts:
    """Calls over a prompt of any length, outside of CUDA graphs."""

    def __init__(self, graph: DeviceGraph, kv: PagedKv) -> None:
        self._graph = graph
        self._kv = kv
        self._options = graph.options(None)
        max_tokens = kv.slot_pages * kv.page_tokens
        self._inputs = PagedInputs(graph.memory, rows=1, tokens=max_tokens, pages=kv.slot_pages)
        self._rows = PromptRows(graph.memory, graph.interface)
        self._bounds = _bounds(0, 0, 0)
        self._keep = np.zeros((), np.int64)
        self._sent = (np.zeros(0, np.int64), np.zeros(0, np.int32))
        """The last call's inputs, kept alive: its caller waits for its end."""
        self._binding = bound(graph, kv)
        bind_host(graph, self._binding, self._bounds, self._keep)

    def write(self, table: Sequence[int], past: int, tokens: Tokens, keep: int) -> DeviceCall:
        """Writes a call over `tokens` after the first `past` ones, in the pages of a table."""
        count, total = len(tokens), past + len(tokens)
        pages = pages_for(total, self._kv.page_tokens)
        self._keep[()] = keep
        self._bounds[:] = count, total, total
        self._inputs.bind(self._binding, count, pages)
        places = np.array([0, count, past, *table[:pages]], np.int32)
        self._sent = (np.ascontiguousarray(tokens), places)
        self._inputs.write(*self._sent)
        rows = self._rows.of(count, keep)
        rows.bind(self._binding, (rows.count,))
        return DeviceCall(self._binding, self._options, rows, rows.count)


def bound(graph: DeviceGraph, kv: PagedKv) -> Binding:
    """Binds all pages as both past and present."""
    binding = graph.binding()
    for buffer in kv.buffers:
        pair = buffer.shape
        shape = (kv.pages, kv.page_tokens, pair.heads, pair.head_dim)
        placed = Placed(buffer.address, pair.dtype, shape, pair.onnx_type)
        binding.input(pair.past, placed)
        binding.output(pair.present, placed)
    return binding


def bind_host(
    graph: DeviceGraph, binding: Binding, bounds: Integers, keep: NDArray[np.int64]
) -> None:
    """Binds what the graph takes on the host. A CUDA graph keeps the values of its capture."""
    for name, array in (("attention_metadata", bounds), ("num_logits_to_keep", keep)):
        if name in graph.interface.fed:
            binding.host_input(name, array)


def _bounds(max_new: int, longest_max: int, longest_min: int) -> Integers:
    """Returns limits in tokens: of each row's new ones, and of all of the longest row's. They
    choose a kernel and its grid; no result depends on them."""
    return np.array([max_new, longest_max, longest_min], np.int32)


def _fewer(kv: PagedKv, pages: int) -> int:
    """Returns the next smaller size of tables; 0 below the smallest."""
    return max((size for size in batches(kv.slot_pages) if size < pages), default=0)


def _fill(table: Integers, tables: Sequence[Sequence[int]], spare: int) -> None:
    """Fills each row with its pages, and the rest with the spare one: the operator reads whole rows
    (ONNX Runtime 1.31), so that each number must be that of a page."""
    table[:] = spare
    for row, pages in zip(table, tables, strict=False):
        row[: len(pages)] = pages[: len(row)]
