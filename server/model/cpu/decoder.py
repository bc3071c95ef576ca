"""The decoder for the CPU: its calls, the memory of its slots, and which cores do what.

Knows tensors and their memory; does not know requests, sampling or text.
"""

import contextlib
import logging
from collections.abc import Iterator
from functools import partial

import numpy as np

from server.config import CPU
from server.errors import Interrupted, StartError
from server.model.cpu.graph_calls import GraphCalls
from server.model.cpu.host_graph import CallOptions, HostGraph, SharedWeights
from server.model.cpu.kv_memory import KvMemory, SavedKv
from server.model.cpu.side_reader import SideRead, SideReader
from server.model.folder import ModelFolder
from server.model.graph_interface import GraphInterface
from server.model.runtime import first_line
from server.model.tensor_types import Logits, Tokens

log = logging.getLogger(__name__)

_ANY_TOKEN = np.zeros(1, np.int64)


class CpuDecoder:
    """`Decoder` of `server.engine.decoder` on the CPU."""

    def __init__(
        self, folder: ModelFolder, *, slots: int, context: int, threads: int, beside: bool = False
    ) -> None:
        """`threads` is the number of cores that calls use. With `beside`, which takes two of them
        and two slots, prompts can be read beside other calls. Raises `StartError`."""
        self.device = CPU
        self.slots = slots
        self.context = context
        self._file = folder.model_file
        self._weights = SharedWeights(self._file) if beside else None
        self._options = CallOptions()
        graph = HostGraph(self._file, threads, self._weights)
        self._interface = GraphInterface.of(graph, str(self._file))
        self._memory = KvMemory(self._interface.kv, slots=slots, capacity=context)
        self._calls = self._calls_of(graph)
        self._side_reader = SideReader(partial(self._split_cores, threads)) if beside else None
        self._written = [0] * slots
        """Tokens in each slot after its last call or copy, to give their pages back. What a
        `SavedKv` loads counts with the prefill that follows it."""
        self._logits = np.empty((slots, 1, self.vocabulary_size), np.float32)
        self._prompt_logits = np.empty((1, 0, self.vocabulary_size), np.float32)
        self.pages = None
        """None: each slot has memory for a whole context."""
        self._call_seconds = 0.0
        with self._trying_out():
            self.prefill(0, 0, _ANY_TOKEN)

    def _calls_of(self, graph: HostGraph) -> GraphCalls:
        return GraphCalls(graph, self._interface, self._memory, self.context, self._options)

    def _split_cores(self, threads: int) -> tuple[GraphCalls, GraphCalls]:
        """Half of the cores can read prompts. One session does for both halves where each is one
        core, since it then has no threads of its own."""
        rest_threads = threads - threads // 2
        half = HostGraph(self._file, threads // 2, self._weights)
        rest = half if threads == 2 else HostGraph(self._file, rest_threads, self._weights)
        return self._calls_of(half), self._calls_of(rest)

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
        """Waits until prompts can be read beside other calls, and tries that out. If it fails, they
        are not."""
        if self._side_reader is None:
            return
        try:
            with self._trying_out():
                read = self.begin_prefill(1, 0, _ANY_TOKEN)
                self._side_reader.calls_beside.decode([0], [0], 0, self._logits[:1])
                read.result()
        except StartError as error:
            warn_not_beside(error)
            self._side_reader = None

    def prefill(self, slot: int, past: int, tokens: Tokens, logits_to_keep: int = 1) -> Logits:
        """See `Decoder`. Returns logits [k, V]."""
        calls = self._free_calls
        logits = self._prompt_rows(calls.logits_shape(len(tokens), logits_to_keep)[1])
        self._written[slot] = past + len(tokens)
        self._call_seconds += calls.prefill(slot, past, tokens, logits_to_keep, logits)
        return logits[0, -min(logits_to_keep, len(tokens)) :]

    def _prompt_rows(self, rows: int) -> Logits:
        """Returns a buffer for logits [1, rows, V]. All slots share it: a binding keeps what is
        bound to it until its next call, so that buffers of each slot's own would all stay in
        memory."""
        if rows == 1:
            return self._logits[:1]
        if rows > self._prompt_logits.shape[1]:
            self._prompt_logits = np.empty((1, rows, self.vocabulary_size), np.float32)
        return self._prompt_logits[:, :rows]

    @property
    def _free_calls(self) -> GraphCalls:
        """Calls with all cores that no prompt is read with."""
        reader = self._side_reader
        return reader.calls_beside if reader and reader.busy else self._calls

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
        logits = self._logits[:count]
        self._written[first_slot : first_slot + count] = [past + 1 for past in pasts]
        self._call_seconds += self._free_calls.decode(tokens, pasts, first_slot, logits)
        return logits[:, 0]

    @property
    def runtime_seconds(self) -> float:
        """Seconds that the caller of all calls so far spent inside the runtime."""
        waited = self._side_reader.waited_seconds if self._side_reader else 0.0
        return self._call_seconds + waited

    @property
    def reads_beside(self) -> bool:
        """See `Decoder`."""
        return self._side_reader is not None

    def begin_prefill(self, slot: int, past: int, tokens: Tokens) -> SideRead:
        """See `Decoder`."""
        if self._side_reader is None:
            raise RuntimeError("prompts are read by `prefill` only")
        self._written[slot] = past + len(tokens)
        return self._side_reader.begin(slot, past, tokens)

    def move(self, source: int, destination: int, length: int) -> None:
        """See `Decoder`."""
        self.copy(source, destination, length)
        self.release(source)

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

    @contextlib.contextmanager
    def _trying_out(self) -> Iterator[None]:
        """Around first calls: one that fails is reported now, not to every client."""
        try:
            yield
        except (StartError, Interrupted):
            raise
        except Exception as error:  # the runtime's own exceptions have no common base
            raise StartError(f"{self._file}: a first call failed: {first_line(error)}") from None
        finally:
            for slot in range(self.slots):
                self.release(slot)


def warn_not_beside(error: StartError) -> None:
    """Says once why prompts are read in the steps of other sequences, although there are cores."""
    log.warning("prompts are not read beside decode rows: %s", error)
