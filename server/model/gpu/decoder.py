"""A decoder whose state lives on a device: what crosses to the host are a few numbers for each row.

Knows slots and calls; does not know which device it is, requests, sampling or text.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.errors import DeviceLost, Interrupted, StartError
from server.model.candidates import Candidates
from server.model.gpu.bindings import DeviceSession
from server.model.gpu.decode_ahead import TRUSTED, DecodeAhead, DecodeRequest
from server.model.gpu.layout import (
    DeviceCall,
    DeviceCalls,
    DeviceGraph,
    KvOwner,
    NewRunOptions,
    SavedDeviceKv,
)
from server.model.gpu.memory import DeviceMemory
from server.model.gpu.paged_calls import MOST_ROWS, PagedCalls
from server.model.gpu.paged_kv import PagedKv, token_bytes
from server.model.gpu.rows import Restore, RowSummary
from server.model.gpu.slot_calls import SlotCalls
from server.model.gpu.slot_kv import DeviceKv
from server.model.graph_interface import GraphInterface
from server.model.kv_shape import pages_for
from server.model.runtime import first_line
from server.model.tensor_types import Tokens

log = logging.getLogger(__name__)

Rows = list[Candidates] | NDArray[np.float32]


def _still_there() -> None:
    """The logits are there."""


@dataclass(frozen=True, slots=True)
class QueuedCall:
    """A call that is queued."""

    call: DeviceCall
    summary: RowSummary | None

    def read(self, restore: Restore = _still_there) -> Rows:
        """Its rows, when it has ended."""
        return self.call.rows.read(self.summary, self.call.count, restore)


class DeviceDecoder:
    """A decoder-only model with memory for `slots` sequences of `context` tokens on a device.

    The graph decides how keys and values lie there. Where CUDA graphs are on, `warm_up` captures
    one for each kind of call that decodes, and a step replays it. Prompts run outside of graphs.

    A decode call can be queued before it is asked for, behind the one before it. All else that is
    asked for comes after it, and what it wrote lies behind what its slots hold.
    """

    def __init__(
        self,
        session: DeviceSession,
        memory: DeviceMemory,
        run_options: NewRunOptions,
        *,
        name: str,
        slots: int,
        context: int,
        cuda_graphs: bool,
        kv_bytes: int | None = None,
        least_ahead: float = TRUSTED,
    ) -> None:
        """`name` is the graph's, for errors; `kv_bytes` bounds keys and values in pages;
        `least_ahead` is that of `DecodeAhead`. Raises `StartError`, and `MemoryError`."""
        self.device = memory.device
        self.slots = slots
        self.context = context
        self.mixed = None
        """Prompts are calls of their own here."""
        self.runtime_seconds = 0.0
        """Seconds that the host spent inside the runtime, and waiting for the device."""
        self._name = name
        self._session = session
        self._run_options = run_options
        self._options: list[Any] = []
        """Those of all calls."""
        self._interrupted = False
        self._memory = memory
        self._queued = 0
        """Calls, ever."""
        self._ahead = DecodeAhead[QueuedCall](least_ahead)
        self._interface = GraphInterface.of(session, name)
        self.vocabulary_size = self._interface.vocabulary_size
        """The width of a row of logits."""
        self.tile = self._interface.tile
        """Tokens of a prompt that attention takes at a time."""
        graph = DeviceGraph(session, memory, self._interface, self._new_options)
        self._kv: KvOwner
        self._calls: DeviceCalls
        self.pages: PagedKv | None = None
        """What slots take their memory from, where it is not all theirs from the start."""
        if self._interface.page_tokens is None:
            kv = self._slot_kv(memory, kv_bytes)
            self._kv, self._calls = kv, SlotCalls(graph, kv, cuda_graphs=cuda_graphs)
        else:
            pages = self._paged_kv(memory, self._interface.page_tokens, kv_bytes)
            self._kv, self._calls = pages, PagedCalls(graph, pages, cuda_graphs=cuda_graphs)
            self.pages = pages
        self.kv_bytes = self._kv.nbytes
        """Bytes that keys and values take, all of them from the start."""
        self.token_bytes = self._kv.token_bytes
        """Bytes that the keys and values of one token take."""

    def warm_up(self) -> None:
        """Makes each kind of call once, in the thread that will make all others: CUDA graphs and
        the runtime's buffers belong to it. Raises `StartError`."""
        try:
            for call in self._calls.first():
                self._read(self._queue(call))
            self.prefill(0, 0, np.zeros(2, np.int64))
        except Interrupted:
            raise
        except Exception as error:  # the runtime's own exceptions have no common base
            reason = first_line(error)
            raise StartError(f"{self._name}: a first call failed: {reason}") from None
        self.release(0)

    def prefill(self, slot: int, past: int, tokens: Tokens, logits_to_keep: int = 1) -> Rows:
        """Reads `tokens` [n] after the slot's first `past` ones; the rows of the last
        `logits_to_keep` tokens, 0 keeps all."""
        self._ahead.lost()
        queued = self._queue(self._calls.prompt(slot, past, tokens, logits_to_keep))
        return self._read(queued)[-logits_to_keep:]

    def decode(
        self, tokens: list[int], pasts: list[int], first_slot: int = 0, *, again: bool = True
    ) -> Rows:
        """One token for each of n neighbouring slots, after the `pasts` first ones of each; a row
        for each. `again`: as far as is known, the same slots are decoded next, so that it pays to
        make that call ahead."""
        asked = DecodeRequest(first_slot, tokens, pasts)
        queued = self._ahead.take(asked)
        if queued is None:
            queued = self._queue(self._calls.decode(first_slot, tokens, pasts))
        if queued.summary is None or not again:
            return self._read(queued)
        after = [past + 1 for past in pasts]
        ahead = self._queue_ahead(queued, first_slot, after)
        restore = cache(partial(self._restore, asked, self._queued)) if ahead else _still_there
        rows = self._read(queued, restore)
        best = queued.summary.ids[: len(tokens), 0].tolist()
        self._ahead.expect(DecodeRequest(first_slot, best, after), ahead)
        return rows

    def move(self, source: int, destination: int, length: int) -> None:
        """Takes the first `length` tokens of a slot to a free one, and frees the source."""
        self._ahead.lost()
        self._kv.move(source, destination, length)

    def copy(self, source: int, destination: int, length: int) -> None:
        """Gives the first `length` tokens of a slot to a free one, too."""
        self._ahead.lost()
        self._kv.copy(source, destination, length)

    def save(self, slot: int, length: int) -> SavedDeviceKv:
        """Keeps the first `length` tokens of a slot, on the device. Raises `MemoryError`."""
        return self._kv.save(slot, length)

    def release(self, slot: int) -> None:
        """What the slot holds is no longer needed."""
        self._ahead.lost()
        self._kv.release(slot)

    def rest(self) -> None:
        """Nothing: the device's memory is reserved as a whole."""

    def interrupt(self) -> None:
        """Ends each later call with `Interrupted`, and the one under way if it is not queued on the
        device yet; safe from any thread."""
        self._interrupted = True
        for options in self._options:
            options.terminate = True

    def _slot_kv(self, memory: DeviceMemory, kv_bytes: int | None) -> DeviceKv:
        if kv_bytes is not None:
            raise StartError(f"{self._name} has no keys and values in pages: --kv-mib has no use")
        return DeviceKv(memory, self._interface.kv, slots=self.slots, capacity=self.context)

    def _paged_kv(self, memory: DeviceMemory, page_tokens: int, kv_bytes: int | None) -> PagedKv:
        if self.slots > MOST_ROWS:
            words = f"--slots {self.slots} is more than {MOST_ROWS}"
            raise StartError(f"{self._name} has keys and values in pages: {words}")
        shapes, slot_pages = self._interface.kv, pages_for(self.context, page_tokens)
        page_bytes = page_tokens * token_bytes(shapes)
        if kv_bytes is None:
            pages = self.slots * slot_pages
        elif (pages := kv_bytes // page_bytes) < slot_pages:
            needed = -(-slot_pages * page_bytes // 2**20)
            words = f"a context of {self.context} tokens alone takes {needed}"
            raise StartError(f"--kv-mib {kv_bytes / 2**20:g} is too little: {words}")
        return PagedKv(
            memory,
            shapes,
            slots=self.slots,
            slot_pages=slot_pages,
            page_tokens=page_tokens,
            pages=pages,
        )

    def _new_options(self, cuda_graph: int | None) -> Any:
        """That hear of an interruption."""
        options = self._run_options(cuda_graph)
        self._options.append(options)
        return options

    def _queue(self, call: DeviceCall) -> QueuedCall:
        start = time.perf_counter()
        with self._interruptible():
            self._session.run_with_iobinding(call.binding.io_binding, call.options)
            summary = call.rows.fetch()
        self._queued += 1
        self.runtime_seconds += time.perf_counter() - start
        return QueuedCall(call, summary)

    def _queue_ahead(
        self, queued: QueuedCall, first_slot: int, pasts: list[int]
    ) -> QueuedCall | None:
        if not self._ahead.trusted or max(pasts) >= self.context:
            return None
        following = self._calls.follow(queued.call.rows, first_slot, pasts)
        try:
            return self._queue(following) if following else None
        except (RuntimeError, MemoryError) as error:  # no fault of the call that is asked for
            log.warning("no call could be made ahead: %s", first_line(error))
            return None

    def _read(self, queued: QueuedCall, restore: Restore = _still_there) -> Rows:
        start = time.perf_counter()
        with self._interruptible():
            rows = queued.read(restore)
        self.runtime_seconds += time.perf_counter() - start
        return rows

    def _restore(self, asked: DecodeRequest, queued: int) -> None:
        """Makes a call again, whose logits are those of the one ahead of it now; until then, so
        many were queued."""
        if queued != self._queued:
            raise RuntimeError("another call was made since, on what this one left")
        self._ahead.lost()
        call = self._calls.decode(asked.first_slot, asked.tokens, asked.pasts)
        with self._interruptible():
            self._session.run_with_iobinding(call.binding.io_binding, call.options)
            self._memory.settle()

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        if self._interrupted:
            raise Interrupted
        try:
            yield
        except RuntimeError as error:
            lost = self._is_lost()
            if self._interrupted:
                raise Interrupted from None
            if lost:
                raise DeviceLost(f"{self.device}: {first_line(error)}") from error
            raise

    def _is_lost(self) -> bool:
        """After a call that failed: what is queued still reads its inputs, until the device has
        come to its end. Some failures are all that it says from then on."""
        try:
            self._memory.settle()
        except RuntimeError:
            return True
        return False
