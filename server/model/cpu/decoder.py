"""The decoder for the CPU: calls of a folder's graphs, and the memory of their slots.

Knows tensors and their memory; does not know requests, sampling or text.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from server.config import CPU
from server.errors import Interrupted, StartError
from server.model.cpu.host_graph import (
    CallOptions,
    HostBinding,
    HostGraph,
    SharedWeights,
    make_room,
)
from server.model.cpu.kv_memory import KvMemory, SavedKv
from server.model.cpu.mixed_calls import MixedCalls
from server.model.folder import ModelFolder
from server.model.graph_interface import GraphInterface
from server.model.runtime import first_line
from server.model.tensor_types import Logits, Tokens

_MASK_WIDTH = 128
"""The attention mask of decode rows is as wide as the next multiple of this."""


class CpuDecoder:
    """`Decoder` of `server.engine.decoder` on the CPU.

    Keys and values are bound as both past and present, so that GroupQueryAttention writes new
    positions in place and a step copies nothing. Decode rows run as `[n, 1]` over n neighbouring
    slots and prompts as `[1, n]` over one: with these shapes, results do not depend on neighbours.
    """

    def __init__(self, folder: ModelFolder, *, slots: int, context: int, threads: int) -> None:
        """`threads` is the number of cores that one call uses. Raises `StartError`."""
        self.device = CPU
        self.slots = slots
        self.context = context
        mixed_file = folder.mixed_file if slots > 1 else None
        self._weights = SharedWeights() if mixed_file else None
        self._graph = HostGraph(folder.model_file, threads, self._weights)
        self._interface = GraphInterface.of(self._graph, str(folder.model_file))
        self._memory = KvMemory(self._interface.kv, slots=slots, capacity=context)
        self._written = [0] * slots
        """Tokens in each slot after its last call, move or copy, to give their pages back. What a
        `SavedKv` loads counts with the prefill that follows it."""
        self._logits = np.empty((slots, 1, self.vocabulary_size), np.float32)
        self._prompt_logits = np.empty((1, 0, self.vocabulary_size), np.float32)
        self._prompt_bindings: dict[int, HostBinding] = {}
        self._decode_rows: dict[tuple[int, int], _DecodeRows] = {}
        """By the first slot and the number of slots."""
        self._mixed_calls: MixedCalls | None = None
        if mixed_file:
            self._mixed_calls = MixedCalls(mixed_file, self._memory, threads, self._weights)
        self._options = CallOptions()
        self.pages = None
        """None: each slot has memory for a whole context."""
        self.runtime_seconds = 0.0
        """Seconds that all calls so far spent inside the runtime."""
        self._try_out(folder)

    @property
    def vocabulary_size(self) -> int:
        """The width of a row of logits."""
        return self._interface.vocabulary_size

    @property
    def tile(self) -> int:
        """Tokens of a prompt that attention takes at a time."""
        return self._interface.tile

    @property
    def kv_bytes(self) -> int:
        """Bytes that the keys and values of full slots take."""
        return self._memory.nbytes

    @property
    def token_bytes(self) -> int:
        """Bytes that the keys and values of one token take."""
        return self._memory.token_bytes

    def warm_up(self) -> None:
        """Does nothing: the graphs were tried out when they were opened."""

    def prefill(self, slot: int, past: int, tokens: Tokens, logits_to_keep: int = 1) -> Logits:
        """See `Decoder`. Returns logits [k, V]."""
        if slot not in self._prompt_bindings:
            make_room(self._prompt_bindings)
            self._prompt_bindings[slot] = self._binding(slot, rows=1)
        binding = self._prompt_bindings[slot]
        total = past + len(tokens)
        self._written[slot] = total
        feeds = {
            "input_ids": np.ascontiguousarray(tokens[None, :]),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(past, total, dtype=np.int64)[None, :],
            "num_logits_to_keep": np.array(logits_to_keep, np.int64),
        }
        self._feed(binding, feeds)
        kept = min(logits_to_keep, len(tokens)) or len(tokens)
        rows = kept if self._interface.keeps_last else len(tokens)
        logits = self._logits[:1]
        if rows > 1:
            logits = self._room_for(rows)
        binding.output("logits", logits)
        self._run(binding)
        return logits[0, -kept:]

    def _room_for(self, rows: int) -> Logits:
        """Returns a buffer for logits [1, rows, V]. All slots share one: a binding keeps what is
        bound to it until its next call, so that buffers of each slot's own would all stay in
        memory."""
        if rows > self._prompt_logits.shape[1]:
            self._prompt_logits = np.empty((1, rows, self.vocabulary_size), np.float32)
        return self._prompt_logits[:, :rows]

    def decode(
        self,
        tokens: list[int],
        pasts: list[int],
        first_slot: int = 0,
        *,
        again: bool = True,  # noqa: ARG002 nothing is prepared on the CPU
    ) -> Logits:
        """See `Decoder`. Returns logits [n, V]."""
        count = len(tokens)
        self._written[first_slot : first_slot + count] = [past + 1 for past in pasts]
        if (first_slot, count) not in self._decode_rows:
            make_room(self._decode_rows)
            self._decode_rows[first_slot, count] = self._new_decode_rows(first_slot, count)
        rows = self._decode_rows[first_slot, count]
        rows.fill(tokens, pasts, self.context)
        if rows.mask is not rows.bound_mask:
            self._feed(rows.binding, {"attention_mask": rows.mask})
            rows.bound_mask = rows.mask
        self._run(rows.binding)
        return self._logits[:count, 0]

    @property
    def mixed(self) -> Callable[..., Logits] | None:
        """See `Decoder`. None without a second graph, or with one slot."""
        return partial(self._mixed, self._mixed_calls) if self._mixed_calls else None

    def _mixed(
        self,
        calls: MixedCalls,
        tokens: list[int],
        pasts: list[int],
        slot: int,
        past: int,
        prompt: Tokens,
        *,
        last: bool,
    ) -> Logits:
        """Returns logits [n, V], or [n + 1, V] with the prompt's `last` token."""
        self._written[: len(tokens)] = [past + 1 for past in pasts]
        self._written[slot] = past + len(prompt)
        logits = self._logits[: len(tokens) + last, 0]
        binding = calls.bound(tokens, pasts, slot, past, prompt, logits)
        self._run(binding, calls.graph)
        return logits

    def move(self, source: int, destination: int, length: int) -> None:
        """See `Decoder`."""
        self._memory.move(source, destination, length)
        self._written[destination] = length

    def copy(self, source: int, destination: int, length: int) -> None:
        """See `Decoder`."""
        self._memory.copy(source, destination, length)
        self._written[destination] = length

    def save(self, slot: int, length: int) -> SavedKv:
        """See `Decoder`."""
        return self._memory.save(slot, length)

    def release(self, slot: int) -> None:
        """See `Decoder`."""
        self._memory.release(slot, self._written[slot])

    def rest(self) -> None:
        """See `Decoder`. Keeps no memory for the next sequences."""
        self._memory.rest()
        if self._weights:
            self._weights.mapped.forget()  # such as the table of embeddings

    def interrupt(self) -> None:
        """See `Decoder`."""
        self._options.terminate()

    def _try_out(self, folder: ModelFolder) -> None:
        """Calls each graph once, so that one that fails is reported now, not to every client."""
        token = np.zeros(1, np.int64)
        with _first_call(folder.model_file):
            self.prefill(0, 0, token)
        self.release(0)
        if self.mixed and folder.mixed_file:
            with _first_call(folder.mixed_file):
                self.mixed([0], [0], 1, 0, token, last=False)
            self.release(0)
            self.release(1)

    def _run(self, binding: HostBinding, graph: HostGraph | None = None) -> None:
        """Runs the graph that decodes, or another one."""
        start = time.perf_counter()
        try:
            (graph or self._graph).run(binding, self._options)
        except RuntimeError:
            if self._options.terminated:
                raise Interrupted from None
            raise
        self.runtime_seconds += time.perf_counter() - start

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

    def _new_decode_rows(self, first_slot: int, count: int) -> "_DecodeRows":
        rows = _DecodeRows(self._binding(first_slot, count), count)
        fixed = {
            "input_ids": rows.tokens,
            "position_ids": rows.pasts,
            "num_logits_to_keep": rows.one,
        }
        self._feed(rows.binding, fixed)
        rows.binding.output("logits", self._logits[:count])
        return rows


@contextlib.contextmanager
def _first_call(graph: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the runtime's own exceptions have no common base
        raise StartError(f"{graph}: a first call failed: {first_line(error)}") from None


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
