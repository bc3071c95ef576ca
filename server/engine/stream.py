"""The events of one request on their way to its client, and the timeouts of its waiting.

Knows trio, as a part of the engine's front; does not know the engine.
"""

from collections.abc import AsyncIterator

import trio

from server.config import EngineLimits
from server.engine.deadline import noticed_on_time
from server.engine.events import EngineMessage, Event, Failed, Finished, Progress
from server.engine.request_stats import RequestStats

OVERFLOW = Failed(503, "Buffered requests overflow")
NO_SLOT = Failed(504, "Waiting for available slot timed out")
NO_PROGRESS = Failed(504, "Inference timed out: the request made no progress")


class Events(AsyncIterator[list[Event]]):
    """The events that a client has not read yet, in order; for one reader.

    There is room for all that the request can cause, a context of tokens at most: nothing ever
    waits for a slow client, and its unread events are small beside the keys and values of the same
    tokens. A client that stops reading is dropped by its connection.
    """

    def __init__(self) -> None:
        self._unread: list[Event] = []
        self._ended = False
        self._reader: trio.lowlevel.Task | None = None

    def add(self, event: Event) -> None:
        self._unread.append(event)
        self._wake()

    def end(self) -> None:
        """No more events follow."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        # A trio memory channel does the same in more code, all of which the model's weights have
        # pushed out of the caches when a token comes.
        if self._reader is not None:
            trio.lowlevel.reschedule(self._reader)
            self._reader = None

    async def __anext__(self) -> list[Event]:
        """Waits for events; returns all that are unread, at least one."""
        if self._unread or self._ended:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            self._reader = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        if not self._unread:
            raise StopAsyncIteration
        events, self._unread = self._unread, []
        return events

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED


class Stream:
    """The events of one request, on their way from the engine to the client."""

    def __init__(self, key: int, stats: RequestStats) -> None:
        self.key = key
        self.stats = stats
        self.events = Events()
        self._admitted = trio.Event()
        self._begun = trio.Event()
        self._progress = 0.0
        self.encoding = trio.CancelScope()
        """Around tokenising the prompt; cancelled at the end of the stream."""
        self.waiting = trio.CancelScope()
        """Around `limit_reached`; cancelled at the end of the stream."""
        self.left = trio.Event()
        """Set when the block of `Engine.generate` was left: the events are no longer read."""

    def admit(self) -> None:
        """Records that the request has a slot, or is the next to get one."""
        self._admitted.set()

    def receive(self, message: EngineMessage, now: float) -> None:
        """Takes a message of the engine, at trio's time `now`; none after a terminal event."""
        self._progress = now
        self._admitted.set()
        self._begun.set()
        if isinstance(message, Progress):
            return
        self.events.add(message)
        if isinstance(message, Finished | Failed):
            self.end()

    def end(self) -> None:
        """Ends the stream: no more events follow."""
        self.events.end()
        self.encoding.cancel()
        self.waiting.cancel()

    async def limit_reached(self, limits: EngineLimits) -> Failed:
        """Waits until the request exceeds a timeout; returns the error for it.

        Time counts while there is no slot, and again from the start of the prompt's prefill, anew
        at each message. In between, other prompts are encoded and read, and that wait has no
        timeout. If the process was stopped meanwhile, the time begins again.
        """
        while not self._admitted.is_set():
            due = trio.current_time() + limits.buffered_seconds
            with trio.move_on_at(due):
                await self._admitted.wait()
            if not self._admitted.is_set() and noticed_on_time(due, trio.current_time()):
                return NO_SLOT
        await self._begun.wait()
        while (due := self._progress + limits.progress_seconds) > trio.current_time():
            await trio.sleep_until(due)
            if not noticed_on_time(due, trio.current_time()):
                self._progress = trio.current_time()
        return NO_PROGRESS
