"""The engine as the network sees it: requests in, events out.

With `watched_thread` and `stream`, this is the engine's front, the only part that knows trio.
Does not know HTTP, JSON or the model's runtime.
"""

import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from server.config import EngineConfig
from server.engine.admission import Admission, Standing
from server.engine.condition import Condition
from server.engine.core import EngineCore
from server.engine.decoder import Decoder
from server.engine.events import EngineMessage, Event, Failed, Finished, NotTaken
from server.engine.facts import End, Observe, Occupancy, unobserved
from server.engine.pacer import Pacer
from server.engine.preparation import Preparation
from server.engine.prompt import Tokenizer
from server.engine.request import GenerationRequest
from server.engine.request_stats import RequestStats
from server.engine.sequence import Sequence
from server.engine.stream import OVERFLOW, Stream
from server.engine.watched_thread import WatchedThread
from server.errors import ClientError

_TO_SEND_FINAL_ERRORS = {Condition.DRAINING: 0.25, Condition.LOST: 2.0}
"""Seconds that clients have to receive their last line."""
FINAL_ERRORS = {
    Condition.DRAINING: Failed(503, "The server is shutting down"),
    Condition.LOST: Failed(500, "The engine was lost"),
}
"""The error for a stream that cannot begin or go on."""


class Engine:
    """Takes requests while `running` is entered, from one trio thread.

    async with engine.running():
        async with engine.generate(request) as events:
            async for batch in events: ...
    """

    def __init__(
        self,
        load: Callable[[], tuple[Decoder, Tokenizer]],
        config: EngineConfig,
        eos_token_ids: frozenset[int],
        observe: Observe = unobserved,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`load` opens the model, off the event loop. Requests wait for it as they do for a slot,
        but their prompts are not looked at before.

        `observe` is called in two threads: see `facts`. `clock` gives seconds.
        """
        self._load = load
        self._config = config
        self._observe = observe
        self._clock = clock
        self._eos_token_ids = eos_token_ids
        self._one_encoding = trio.CapacityLimiter(1)
        """For prompts, in order of arrival; taken while the model is loaded."""
        self._keys = itertools.count()
        self._admission = Admission(config.limits.buffered_requests)
        self._streams: dict[int, Stream] = {}
        """Streams that have not ended."""
        self._open: set[Stream] = set()
        """Streams whose block was not left: clients may still have to receive the last line."""
        self._condition = Condition.LOADING
        self._thread = WatchedThread(config.limits.call_seconds)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the engine. Raises in an exception group: what `load` raises, `StartError` if the
        decoder cannot be warmed up, and `EngineLost` if the thread ends by itself or hangs. Before
        that, every stream gets an error and the block is cancelled."""
        self._trio = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            self._one_encoding.acquire_nowait()
            decoder, tokenizer = await trio.to_thread.run_sync(self._load)
            self._preparation = Preparation(tokenizer, self._config, self._eos_token_ids)
            self._one_encoding.release()
            fail_all = partial(self._close, Condition.LOST)
            async with self._thread.running(self._core(decoder), decoder, fail_all):
                self._open_for_requests()
                yield
            self._nursery.cancel_scope.cancel()

    def _core(self, decoder: Decoder) -> EngineCore:
        pacer = Pacer(self._config.gap_stretch, self._clock)
        return EngineCore(decoder, self._deliver, pacer, self._config.prefix_cache, self._observe)

    def _open_for_requests(self) -> None:
        for key in self._admission.open(self._config.slots):
            self._streams[key].admit()
        if self._condition is Condition.LOADING:  # and not drained or lost meanwhile
            self._condition = Condition.READY

    @property
    def hangs(self) -> bool:
        """Whether the thread was left behind in a call at the end of `running`."""
        return self._thread.hangs

    async def drain(self) -> None:
        """Refuses new requests and waits until all clients have received their whole answers.
        After `drain_seconds`, the streams that remain get an error as their last line instead."""
        self._condition = Condition.DRAINING
        with trio.move_on_after(self._config.limits.drain_seconds):
            await self._all_left()
        await self._close(Condition.DRAINING)

    @property
    def requests(self) -> int:
        """How many requests run, wait, or have a client that is yet to receive the end."""
        return len(self._open)

    @property
    def condition(self) -> Condition:
        """Whether requests are taken."""
        return self._condition

    @property
    def occupancy(self) -> Occupancy:
        """How full the engine is now."""
        held = sum(stream.stats.held_tokens for stream in self._streams.values())
        # A sequence whose end is not known here yet counts beside the one that has its slot.
        usage = min(held / (self._config.slots * self._config.context), 1.0)
        taken = (self._streams[key].stats.slot_state for key in self._admission.admitted)
        return Occupancy(self._admission.slots, tuple(taken), self._admission.buffered, usage)

    async def sign_of_life(self) -> None:
        """Waits until the engine's thread answers, which it does at once if it is idle."""
        await self._thread.sign_of_life()

    @asynccontextmanager
    async def generate(
        self, request: GenerationRequest
    ) -> AsyncIterator[AsyncIterator[list[Event]]]:
        """The events of one request, as many at a time as there are: any number of `Text`, then
        exactly one terminal event.

        Leaving the block cancels what still runs. Entering raises `NotTaken` if there is no room to
        wait in or the engine takes no requests, whatever the prompt; otherwise `ClientError` (400)
        if the prompt has no tokens or does not fit the context.
        """
        stream = self._enter(RequestStats(request.request_id, self._clock))
        try:
            await self._submit(stream, request)
            yield stream.events
        except ClientError as error:
            self._end(stream, error.status)
            raise
        except Exception:  # ours: a client that leaves is no error, but cancels the block
            self._end(stream, 500)
            raise
        finally:
            self._open.remove(stream)
            stream.left.set()
            self._end(stream, None)

    def _end(self, stream: Stream, end: End) -> None:
        """Ends the stream, if it has not ended, and cancels its sequence."""
        if self._leave(stream, end):
            self._thread.cancel(stream.key)

    def _enter(self, stats: RequestStats) -> Stream:
        """Makes a stream that has a slot or waits for one. Raises `NotTaken`."""
        if self._condition in FINAL_ERRORS:
            raise self._refusal(stats, FINAL_ERRORS[self._condition])
        stream = Stream(next(self._keys), stats)
        standing = self._admission.enter(stream.key)
        if standing is Standing.REFUSED:
            raise self._refusal(stats, OVERFLOW)
        if standing is Standing.ADMITTED:
            stream.admit()
        self._streams[stream.key] = stream
        self._open.add(stream)
        self._nursery.start_soon(self._watch_limits, stream)
        return stream

    def _refusal(self, stats: RequestStats, failed: Failed) -> NotTaken:
        self._observe(stats.ended(failed.code))
        return NotTaken(failed)

    def _leave(self, stream: Stream, end: End) -> bool:
        """Ends a stream and admits the next in its place; False if it had ended before."""
        if self._streams.pop(stream.key, None) is None:
            return False
        stream.end()
        self._observe(stream.stats.ended(end))
        admitted = self._admission.leave(stream.key)
        if admitted is not None:
            self._streams[admitted].admit()
        return True

    async def _submit(self, stream: Stream, request: GenerationRequest) -> None:
        """Hands the request's sequence to the engine's thread, unless the stream ends before."""
        with stream.encoding:
            try:
                sequence = await trio.to_thread.run_sync(
                    self._prepare,
                    stream,
                    request,
                    limiter=self._one_encoding,
                    abandon_on_cancel=True,
                )
            except Exception:
                if stream.key not in self._streams:
                    return  # observers were told of another end, and so is the client
                raise
            if stream.key in self._streams:
                stream.stats.sequence = sequence
                self._thread.submit(sequence)

    def _prepare(self, stream: Stream, request: GenerationRequest) -> Sequence:
        """Called when the model is loaded; until then there is no `_preparation`."""
        return self._preparation.sequence(stream.key, request, stream.stats.arrived)

    async def _watch_limits(self, stream: Stream) -> None:
        with stream.waiting:
            self._fail(stream, await stream.limit_reached(self._config.limits))

    def _fail(self, stream: Stream, failed: Failed) -> None:
        if stream.key in self._streams:  # it may have come to its end since its time was up
            stream.receive(failed, trio.current_time())
            self._end(stream, failed.code)

    def _deliver(self, messages: list[tuple[int, EngineMessage]]) -> None:
        """Called in the engine's thread; hands the messages to the network's in one wake-up."""
        self._trio.run_sync_soon(self._receive, messages)

    def _receive(self, messages: list[tuple[int, EngineMessage]]) -> None:
        now = trio.current_time()
        for key, each in messages:
            if stream := self._streams.get(key):
                stream.receive(each, now)
                if isinstance(each, Finished | Failed):
                    self._leave(stream, each.reason if isinstance(each, Finished) else each.code)

    async def _close(self, condition: Condition) -> None:
        """Refuses new requests, fails all streams, and gives the clients time to receive that."""
        self._condition = condition
        for stream in list(self._streams.values()):
            self._fail(stream, FINAL_ERRORS[condition])
        with trio.move_on_after(_TO_SEND_FINAL_ERRORS[condition]):
            await self._all_left()

    async def _all_left(self) -> None:
        while self._open:
            await next(iter(self._open)).left.wait()
