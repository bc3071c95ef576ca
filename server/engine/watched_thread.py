"""Starts, watches, gives up and stops the engine's thread, for the event loop.

Knows trio, as a part of the engine's front; does not know requests.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from server.engine.core import EngineCore
from server.engine.deadline import noticed_on_time
from server.engine.decoder import Decoder
from server.engine.sequence import Sequence
from server.engine.thread import EngineThread
from server.errors import StartError

_LONGEST_STOP = 0.5
"""Seconds to wait for the thread to stop. Together with those for final errors after draining, less
than the one second in which the process must exit after its deadline."""
_PROBES = 10
"""Questions to the thread in the time that one call may take."""

log = logging.getLogger(__name__)


class EngineLost(Exception):
    """The engine's thread ended by itself, or a call into the model took too long; the log says
    which."""


class WatchedThread:
    """Accepts sequences from the start, and runs them while `running` is entered."""

    def __init__(self, longest_call: float) -> None:
        """The thread is given up if a call into the model takes over `longest_call` seconds."""
        self._longest_call = longest_call
        self._lost = trio.Event()
        self._thread = EngineThread(self._report_lost)

    def submit(self, sequence: Sequence) -> None:
        self._thread.submit(sequence)

    def cancel(self, key: int) -> None:
        self._thread.cancel(key)

    @asynccontextmanager
    async def running(
        self, core: EngineCore, decoder: Decoder, fail_all: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Runs the thread; entered when the decoder is warm. Raises `StartError`, in an exception
        group, if it cannot be warmed up.

        If the thread ends by itself or hangs, `fail_all` is awaited, then the block is cancelled,
        and an `EngineLost` comes out of it in an exception group.
        """
        self._trio = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            try:
                nursery.start_soon(self._watch_end, fail_all)
                await self._start(core, decoder)
                nursery.start_soon(self._watch_calls)
                yield
                if self._lost.is_set():
                    await trio.sleep_forever()  # `_watch_end` is about to raise
                nursery.cancel_scope.cancel()
            finally:
                self._thread.stop()
                decoder.interrupt()
                # The call under way ends between two operators; one that never ends is left behind.
                with trio.move_on_after(_LONGEST_STOP, shield=True):
                    await trio.to_thread.run_sync(self._thread.join, abandon_on_cancel=True)

    @property
    def hangs(self) -> bool:
        """Whether the thread was left behind in a call at the end of `running`."""
        return self._thread.is_alive

    async def sign_of_life(self) -> None:
        """Waits until the thread answers, which it does at once if it is idle."""
        await self._ask().wait()

    def _ask(self) -> trio.Event:
        """An event that the thread sets between two calls into the model."""
        answered = trio.Event()
        self._thread.ask(partial(self._trio.run_sync_soon, answered.set))
        return answered

    async def _start(self, core: EngineCore, decoder: Decoder) -> None:
        """Starts the thread and waits until it has warmed the decoder up. Raises `StartError`."""
        warm, failures = trio.Event(), list[StartError]()

        def warm_up() -> bool:
            try:
                decoder.warm_up()
            except StartError as error:
                failures.append(error)
            self._trio.run_sync_soon(warm.set)
            return not failures

        self._thread.start(core, warm_up)
        await warm.wait()
        if failures:
            raise failures[0]

    def _report_lost(self) -> None:
        """Called in the thread, once an error has ended its steps."""
        self._trio.run_sync_soon(self._lost.set)

    async def _watch_end(self, fail_all: Callable[[], Awaitable[None]]) -> None:
        """Ends the block when the thread has ended by itself, or is given up."""
        await self._lost.wait()
        await fail_all()
        raise EngineLost

    async def _watch_calls(self) -> None:
        """Gives the thread up when one call into the model takes too long."""
        while True:
            answered, due = self._ask(), trio.current_time() + self._longest_call
            with trio.move_on_at(due):
                await answered.wait()
            if not answered.is_set() and noticed_on_time(due, trio.current_time()):
                break
            await trio.sleep(self._longest_call / _PROBES)
        log.error(
            "the engine is lost: a call into the model took more than %g s", self._longest_call
        )
        self._lost.set()
