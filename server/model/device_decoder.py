"""A decoder whose state lives on a device: what crosses to the host are a few numbers for each row.

Knows slots and calls; does not know which device it is, requests, sampling or text.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.errors import Interrupted, StartError
from server.model.bindings import Binding, DeviceSession
from server.model.candidates import Candidates
from server.model.device_calls import DecodeCalls, PromptCalls
from server.model.device_kv import DeviceKv, SavedDeviceKv
from server.model.device_memory import DeviceMemory
from server.model.graph_interface import GraphInterface

Tokens = NDArray[np.int64]
Rows = list[Candidates] | NDArray[np.float32]
RunOptions = Callable[[int | None], Any]
"""The runtime's options for calls that one CUDA graph, by its number, is made of, or for others."""
_FLOAT_BYTES = 4


class DeviceDecoder:
    """A decoder-only model with memory for `slots` sequences of `context` tokens on a device.

    Sequences decode in calls of a few fixed numbers of rows, each with its own buffers: where CUDA
    graphs are on, `warm_up` captures one for each number, and a step replays it. Prompts run
    outside of graphs.
    """

    def __init__(
        self,
        session: DeviceSession,
        memory: DeviceMemory,
        run_options: RunOptions,
        *,
        name: str,
        slots: int,
        context: int,
        cuda_graphs: bool,
    ) -> None:
        """`name` is the graph's, for errors. Raises `StartError`, and `MemoryError`."""
        self.device = memory.device
        self.slots = slots
        self.context = context
        self.runtime_seconds = 0.0
        """Seconds that all calls so far spent inside the runtime."""
        self._name = name
        self._session = session
        self._run_options = run_options
        self._cuda_graphs = cuda_graphs
        self._graph = GraphInterface.of(session, name)
        self.vocabulary_size = self._graph.vocabulary_size
        """The width of a row of logits."""
        self.tile = self._graph.tile
        """Tokens of a prompt that attention takes at a time."""
        self._kv = DeviceKv(memory, self._graph.kv, slots=slots, capacity=context)
        self.kv_bytes = self._kv.nbytes
        """Bytes that keys and values take, all of them from the start."""
        self.token_bytes = self._kv.token_bytes
        """Bytes that the keys and values of one token take."""
        self._logits = memory.reserve(_FLOAT_BYTES * slots * self._graph.vocabulary_size)
        self._prompts = PromptCalls(session, self._graph, self._kv, run_options(None))
        self._decode_calls: dict[tuple[int, int], DecodeCalls] = {}
        """By the first slot and the number of rows."""
        self._options = [self._prompts.options]
        self._interrupted = False

    def warm_up(self) -> None:
        """Makes each kind of call once, in the thread that will make all others: CUDA graphs and
        the runtime's buffers belong to it. The largest comes first, so that its memory is there for
        the others. Raises `StartError`."""
        try:
            for rows in reversed(batches(self.slots)):
                calls = self._calls(0, rows)
                calls.write([], [])
                self._run(calls.binding, calls.options)
            self.prefill(0, 0, np.zeros(2, np.int64))
        except Interrupted:
            raise
        except Exception as error:  # the runtime's own exceptions have no common base
            line = str(error).partition("\n")[0]
            raise StartError(f"{self._name}: a first call failed: {line}") from None
        self.release(0)

    def prefill(self, slot: int, past: int, tokens: Tokens, logits_to_keep: int = 1) -> Rows:
        """Reads `tokens` [n] after the slot's first `past` ones; the rows of the last
        `logits_to_keep` tokens, 0 keeps all."""
        self._kv.held[slot] = past + len(tokens)
        binding, rows = self._prompts.write(slot, past, tokens, logits_to_keep)
        self._run(binding, self._prompts.options)
        return rows.read(rows.count)[-logits_to_keep:]

    def decode(self, tokens: list[int], pasts: list[int], first_slot: int = 0) -> Rows:
        """One token for each of n neighbouring slots, after the `pasts` first ones of each; a row
        for each."""
        count = len(tokens)
        self._kv.held[first_slot : first_slot + count] = [past + 1 for past in pasts]
        calls = self._calls(first_slot, count)
        calls.write(tokens, pasts)
        self._run(calls.binding, calls.options)
        return calls.rows.read(count)

    def move(self, source: int, destination: int, length: int) -> None:
        """Takes the first `length` tokens of a slot to a free one, and frees the source."""
        self._kv.move(source, destination, length)

    def copy(self, source: int, destination: int, length: int) -> None:
        """Gives the first `length` tokens of a slot to a free one, too."""
        self._kv.copy(source, destination, length)

    def save(self, slot: int, length: int) -> SavedDeviceKv:
        """Copies the first `length` tokens of a slot into memory of their own, on the device.
        Raises `MemoryError`."""
        return self._kv.save(slot, length)

    def release(self, slot: int) -> None:
        """What the slot holds is no longer needed. Its memory stays reserved."""
        self._kv.held[slot] = 0

    def rest(self) -> None:
        """Nothing: the device's memory is reserved as a whole."""

    def interrupt(self) -> None:
        """Ends the call under way, and each later one, with `Interrupted`; safe from any thread."""
        self._interrupted = True
        for options in self._options:
            options.terminate = True

    def _calls(self, first_slot: int, count: int) -> DecodeCalls:
        """With rows for `count` sequences. Those that draft part the others into runs that begin at
        any slot, too many for a graph each: these run as they are."""
        rows = count
        if first_slot == 0:
            rows = next(size for size in batches(self.slots) if size >= count)
        if (first_slot, rows) not in self._decode_calls:
            captured = self._cuda_graphs and first_slot == 0
            options = self._run_options(rows if captured else None)
            self._options.append(options)
            self._decode_calls[first_slot, rows] = DecodeCalls(
                self._session,
                self._graph,
                self._kv,
                self._logits,
                first_slot=first_slot,
                rows=rows,
                options=options,
            )
        return self._decode_calls[first_slot, rows]

    def _run(self, binding: Binding, options: Any) -> None:
        if self._interrupted:
            raise Interrupted
        start = time.perf_counter()
        try:
            self._session.run_with_iobinding(binding.bound, options)
        except RuntimeError:
            if self._interrupted:
                raise Interrupted from None
            raise
        self.runtime_seconds += time.perf_counter() - start


def batches(slots: int) -> list[int]:
    """Numbers of rows that calls have: the powers of 2 below the slots, and all slots."""
    return [*(1 << power for power in range((slots - 1).bit_length())), slots]
