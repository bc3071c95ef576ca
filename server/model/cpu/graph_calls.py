"""Calls of one graph: decode rows over neighbouring slots, and prompts over one.

Knows the graph's inputs and outputs; does not know what else its decoder calls, or when.
"""

import time

import numpy as np

from server.errors import Interrupted
from server.model.cpu.host_graph import CallOptions, HostBinding, HostGraph, make_room
from server.model.cpu.kv_memory import KvMemory
from server.model.graph_interface import GraphInterface
from server.model.tensor_types import Logits, Tokens

_MASK_WIDTH = 128
"""The attention mask of decode rows is as wide as the next multiple of this."""


class GraphCalls:
    """Both kinds of call return the seconds that they spent inside the runtime, and raise
    `Interrupted` once the options are terminated. One call at a time.

    Keys and values are bound as both past and present, so that GroupQueryAttention writes new
    positions in place and a step copies nothing. Decode rows run as `[n, 1]` over n neighbouring
    slots and prompts as `[1, n]` over one: with these shapes, results do not depend on neighbours.
    """

    def __init__(
        self,
        graph: HostGraph,
        interface: GraphInterface,
        memory: KvMemory,
        context: int,
        options: CallOptions,
    ) -> None:
        self._graph = graph
        self._interface = interface
        self._memory = memory
        self._context = context
        self._options = options
        self._prompts: dict[int, HostBinding] = {}
        """By slot."""
        self._decode_rows: dict[tuple[int, int], _DecodeRows] = {}
        """By the first slot and the number of slots."""

    def logits_shape(self, tokens: int, logits_to_keep: int) -> tuple[int, int, int]:
        """The shape of the logits of a prompt's call: those of the last `logits_to_keep` tokens (0:
        of all), or of all if the graph does not take that number."""
        kept = min(logits_to_keep, tokens) or tokens
        rows = kept if self._interface.keeps_last else tokens
        return 1, rows, self._interface.vocabulary_size

    def prefill(
        self, slot: int, past: int, tokens: Tokens, logits_to_keep: int, logits: Logits
    ) -> float:
        """Reads `tokens` [n] into a slot, after its first `past` ones. `logits` has
        `logits_shape`."""
        if slot not in self._prompts:
            make_room(self._prompts)
            self._prompts[slot] = self._binding(slot, rows=1)
        binding = self._prompts[slot]
        total = past + len(tokens)
        feeds = {
            "input_ids": np.ascontiguousarray(tokens[None, :]),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(past, total, dtype=np.int64)[None, :],
            "num_logits_to_keep": np.array(logits_to_keep, np.int64),
        }
        self._feed(binding, feeds)
        binding.output("logits", logits)
        return self._run(binding)

    def decode(self, tokens: list[int], pasts: list[int], first_slot: int, logits: Logits) -> float:
        """Reads one token into each of n slots. `logits` [n, 1, V] is memory that all calls with
        the same slots share."""
        count = len(tokens)
        if (first_slot, count) not in self._decode_rows:
            make_room(self._decode_rows)
            self._decode_rows[first_slot, count] = self._new_decode_rows(first_slot, logits)
        rows = self._decode_rows[first_slot, count]
        rows.fill(tokens, pasts, self._context)
        if rows.mask is not rows.bound_mask:
            self._feed(rows.binding, {"attention_mask": rows.mask})
            rows.bound_mask = rows.mask
        return self._run(rows.binding)

    def _run(self, binding: HostBinding) -> float:
        start = time.perf_counter()
        try:
            self._graph.run(binding, self._options)
        except RuntimeError:
            if self._options.terminated:
                raise Interrupted from None
            raise
        return time.perf_counter() - start

    def _feed(self, binding: HostBinding, feeds: dict[str, Tokens]) -> None:
        """Binds those of the arrays that the graph takes."""
        for name in self._interface.fed & feeds.keys():
            binding.input(name, feeds[name])

    def _binding(self, slot: int, rows: int) -> HostBinding:
        """Returns a binding with the keys and values of `rows` neighbouring slots."""
        binding = self._graph.binding()
        for buffer in self._memory.buffers:
            array = buffer.array[slot : slot + rows]
            binding.in_place(buffer.shape.past, buffer.shape.present, array)
        return binding

    def _new_decode_rows(self, first_slot: int, logits: Logits) -> "_DecodeRows":
        count = len(logits)
        rows = _DecodeRows(self._binding(first_slot, count), count)
        fixed = {
            "input_ids": rows.tokens,
            "position_ids": rows.pasts,
            "num_logits_to_keep": rows.one,
        }
        self._feed(rows.binding, fixed)
        rows.binding.output("logits", logits)
        return rows


class _DecodeRows:
    """The inputs of `[n, 1]` calls, in arrays that stay bound; a step writes only what changes. The
    processor's caches are full of weights then, so that each array operation counts: with new
    arrays in each step, a small model took a twentieth longer.

    The mask may be wider than the longest row. Its zeros change no bit of the result: the graph
    takes each row's length from the sum, and only a bound from the width.
    """

    def __init__(self, binding: HostBinding, count: int) -> None:
        self.binding = binding
        self.tokens = np.zeros((count, 1), np.int64)
        self.pasts = np.zeros((count, 1), np.int64)
        self.one = np.array(1, np.int64)
        self.mask = np.zeros((count, 0), np.int64)
        self.bound_mask: Tokens | None = None
        # Element by element, a memoryview is several times cheaper to write to than its array.
        self._tokens_view = self.tokens.reshape(-1).data
        self._pasts_view = self.pasts.reshape(-1).data
        self._mask_view = self.mask.reshape(-1).data

    def fill(self, tokens: list[int], pasts: list[int], context: int) -> None:
        """Sets the next call's inputs."""
        width = min((max(pasts) // _MASK_WIDTH + 1) * _MASK_WIDTH, context)
        each_one_longer = [past - 1 for past in pasts] == self._pasts_view.tolist()
        if each_one_longer and width == self.mask.shape[1]:
            for row, past in enumerate(pasts):
                self._mask_view[row * width + past] = 1
        else:
            self._new_mask(pasts, width)
        for row, (token, past) in enumerate(zip(tokens, pasts, strict=True)):
            self._tokens_view[row] = token
            self._pasts_view[row] = past

    def _new_mask(self, pasts: list[int], width: int) -> None:
        if width != self.mask.shape[1]:
            self.mask = np.empty((len(pasts), width), np.int64)
            self._mask_view = self.mask.reshape(-1).data
        np.less_equal(np.arange(width), np.array(pasts)[:, None], out=self.mask)
