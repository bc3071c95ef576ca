"""A decoder whose state stays on a device: the host receives a few numbers for each row.

Knows slots and calls; does not know which device it is, requests, sampling or text.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NoReturn

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
from server.model.gpu.paged_calls import MAX_ROWS, PagedCalls
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


def _nothing_to_restore() -> None:
    """No later call has overwritten the logits."""


@dataclass(frozen=True, slots=True)
class QueuedCall:
    """A call that is queued, and the summary that it copies to the host."""

    call: DeviceCall
    summary: RowSummary | None

    def read(self, restore: Restore = _nothing_to_restore) -> Rows:
        """Waits for the call, and returns its rows."""
        return self.call.rows.read(self.summary, self.call.count, restore)


@dataclass(frozen=True, slots=True)
class SavedCopy:
    """`SavedDeviceKv` of any layout; notices a lost device, as the decoder does."""

    saved: SavedDeviceKv
    interruptible: Callable[[], contextlib.AbstractContextManager[None]]

    def load(self, slot: int, length: int) -> None:
        """See `SavedKv` of `server.engine.decoder`."""
        with self.interruptible():
            self.saved.load(slot, length)


class DeviceDecoder:
    """`Decoder` of `server.engine.decoder` on a device.

    The graph decides the layout of keys and values there. With CUDA graphs, `warm_up` captures one
    for each kind of decode call, and a step replays it. Prompts run outside of graphs.

    A decode call can be queued before it is requested, right after the one before it. A wrong guess
    does no harm: it writes beyond what its slots hold, and what is requested instead runs after it.
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
        ahead_threshold: float = TRUSTED,
    ) -> None:
        """`name` is the graph's, for errors; `kv_bytes` limits keys and values in pages;
        `ahead_threshold` is that of `DecodeAhead`. Raises `StartError`, and `MemoryError`."""
        self.device = memory.device
        self.slots = slots
        self.context = context
        self.reads_beside = False
        self.runtime_seconds = 0.0
        """Seconds that the host spent inside the runtime, and waiting for the device."""
        self._name = name
        self._session = session
        self._run_options = run_options
        self._options: list[Any] = []
        """Run options of all calls, for `interrupt`."""
        self._interrupted = False
        self._memory = memory
        self._queued = 0
        """Number of calls queued so far."""
        self._ahead = DecodeAhead[QueuedCall](ahead_threshold)
        self._interface = GraphInterface.of(session, name)
        self.vocabulary_size = self._interface.vocabulary_size
        """The width of a row of logits."""
        self.tile = self._interface.tile
        """Tokens of a prompt that attention takes at a time."""
        graph = DeviceGraph(session, memory, self._interface, self._new_options)
        self._kv: KvOwner
        self._calls: DeviceCalls
        self.pages: PagedKv | None = None
        """None where each slot has memory for a whole context."""
        if self._interface.page_tokens is None:
            kv = self._slot_kv(memory, kv_bytes)
            self._kv, self._calls = kv, SlotCalls(graph, kv, cuda_graphs=cuda_graphs)
        else:
            pages = self._paged_kv(memory, self._interface.page_tokens, kv_bytes)
            self._kv, self._calls = pages, PagedCalls(graph, pages, cuda_graphs=cuda_graphs)
            self.pages = pages
        self.kv_bytes = self._kv.nbytes
        """Bytes that keys and values take, all reserved at the start."""
        self.token_bytes = self._kv.token_bytes
        """Bytes that the keys and values of one token take."""

    def warm_up(self) -> None:
        """Makes each kind of call once, in the thread that will make all others: CUDA graphs and
        the runtime's buffers belong to that thread. Raises `StartError`."""
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
        """See `Decoder`."""
        self._ahead.lost()
        with self._interruptible():
            call = self._calls.prompt(slot, past, tokens, logits_to_keep)
        return self._read(self._queue(call))[-logits_to_keep:]

    def begin_prefill(self, slot: int, past: int, tokens: Tokens) -> NoReturn:
        """See `Decoder`: a device is busy with one call at a time."""
        raise NotImplementedError

    def decode(
        self, tokens: list[int], pasts: list[int], first_slot: int = 0, *, again: bool = True
    ) -> Rows:
        """See `Decoder`. With `again`, it pays to queue the next call before it is requested."""
        request = DecodeRequest(first_slot, tokens, pasts)
        queued = self._ahead.take(request)
        if queued is None:
            with self._interruptible():
                call = self._calls.decode(first_slot, tokens, pasts)
            queued = self._queue(call)
        if queued.summary is None or not again:
            return self._read(queued)
        after = [past + 1 for past in pasts]
        ahead = self._queue_ahead(queued, first_slot, after)
        restore = _nothing_to_restore
        if ahead:
            restore = cache(partial(self._restore, request, self._queued))
        rows = self._read(queued, restore)
        best = queued.summary.ids[: len(tokens), 0].tolist()
        self._ahead.expect(DecodeRequest(first_slot, best, after), ahead)
        return rows

    def move(self, source: int, destination: int, length: int) -> None:
        """See `Decoder`."""
        self._ahead.lost()
        with self._interruptible():
            self._kv.move(source, destination, length)

    def copy(self, source: int, destination: int, length: int) -> None:
        """See `Decoder`."""
        self._ahead.lost()
        with self._interruptible():
            self._kv.copy(source, destination, length)

    def save(self, slot: int, length: int) -> SavedDeviceKv:
        """See `Decoder`. The copy stays on the device."""
        with self._interruptible():
            return SavedCopy(self._kv.save(slot, length), self._interruptible)

    def release(self, slot: int) -> None:
        """See `Decoder`."""
        self._ahead.lost()
        self._kv.release(slot)

    def rest(self) -> None:
        """Does nothing: the device's memory stays reserved."""

    def interrupt(self) -> None:
        """See `Decoder`. Does not end a call that is already queued on the device."""
        self._interrupted = True
        for options in self._options:
            options.terminate = True

    def _slot_kv(self, memory: DeviceMemory, kv_bytes: int | None) -> DeviceKv:
        if kv_bytes is not None:
            raise StartError(f"{self._name} has no keys and values in pages: --kv-mib has no use")
        return DeviceKv(memory, self._interface.kv, slots=self.slots, capacity=self.context)

    def _paged_kv(self, memory: DeviceMemory, page_tokens: int, kv_bytes: int | None) -> PagedKv:
        if self.slots > MAX_ROWS:
            words = f"--slots {self.slots} is more than {MAX_ROWS}"
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
        """Returns run options that `interrupt` reaches."""
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
        try:
            with self._interruptible():
                following = self._calls.follow(queued.call.rows, first_slot, pasts)
            return self._queue(following) if following else None
        except (RuntimeError, MemoryError) as error:  # must not fail the requested call
            log.warning("no call could be made ahead: %s", first_line(error))
            return None

    def _read(self, queued: QueuedCall, restore: Restore = _nothing_to_restore) -> Rows:
        start = time.perf_counter()
        with self._interruptible():
            rows = queued.read(restore)
        self.runtime_seconds += time.perf_counter() - start
        return rows

    def _restore(self, request: DecodeRequest, queued: int) -> None:
        """Repeats a call whose logits the one queued early has overwritten. Raises `RuntimeError`
        if more than `queued` calls have been queued by now."""
        if queued != self._queued:
            raise RuntimeError("another call was made since, on what this one left")
        self._ahead.lost()
        with self._interruptible():
            call = self._calls.decode(request.first_slot, request.tokens, request.pasts)
            self._session.run_with_iobinding(call.binding.io_binding, call.options)
            self._memory.settle()

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Around all that is asked of the device, copies included: if it was lost while nothing
        ran, a copy is the first to fail. Raises `Interrupted`, and `DeviceLost`."""
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
        """Waits, after a failed call, for what is queued, since that still reads its inputs.
        Returns whether that fails, too: after some failures, everything else on the device does."""
        try:
            self._memory.settle()
        except RuntimeError:
            return True
        return False
