"""What one client hears of its request, and when its waiting has lasted too long.

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
    """What one client was told since it last looked, in order; for one reader.

    There is room for all that the request can cause, a context of tokens at most: nothing ever
    waits for a slow client, and what lies there for it is small beside the keys and values of the
    same tokens. A client that stops reading is dropped by its connection.
    """

    def __init__(self) -> None:
        self._untold: list[Event] = []
        self._ended = False
        self._reader: trio.lowlevel.Task | None = None

    def add(self, event: Event) -> None:
        self._untold.append(event)
        self._wake()

    def end(self) -> None:
        """There are no others to come."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        # A memory channel of trio's does the same in more code, all of which a token finds pushed
        # out of the caches by the model's weights.
        if self._reader is not None:
            trio.lowlevel.reschedule(self._reader)
            self._reader = None

    async def __anext__(self) -> list[Event]:
        """Waits until there is something; it is never empty."""
        if self._untold or self._ended:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            self._reader = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        if not self._untold:
            raise StopAsyncIteration
        events, self._untold = self._untold, []
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
        """Around what turns the prompt into tokens; cancelled at the end of the stream."""
        self.waiting = trio.CancelScope()
        """Around `limit_reached`; cancelled at the end of the stream."""
        self.left = trio.Event()
        """Set when the client's block was left: nobody reads the events any more."""

    def admit(self) -> None:
        """The request has, or is next to have, a slot."""
        self._admitted.set()

    def receive(self, message: EngineMessage, now: float) -> None:
        """From the engine, at a time of trio's. After a terminal event there may be no other."""
        self._progress = now
        self._admitted.set()
        self._begun.set()
        if isinstance(message, Progress):
            return
        self.events.add(message)
        if isinstance(message, Finished | Failed):
            self.end()

    def end(self) -> None:
        """There is nothing more to come."""
        self.events.end()
        self.encoding.cancel()
        self.waiting.cancel()

    async def limit_reached(self, limits: EngineLimits) -> Failed:
        """Waits until the request has waited too long; what is then to be said.

        Time counts while there is no slot, and again from the start of the prompt. In between,
        other prompts are encoded and read, and waiting for them counts against nothing. Where the
        process was stopped meanwhile, it begins again.
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
