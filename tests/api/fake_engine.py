"""An engine that says what a test tells it to."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from server.engine.condition import Condition
from server.engine.events import Event, Failed, Finished, NotTaken
from server.engine.facts import Occupancy
from server.engine.request import GenerationRequest
from server.errors import ClientError


class FakeEngine:
    """Yields `script` for every request; then waits for ever if the script has no end.

    An exception in the script is raised in its place.
    """

    def __init__(
        self,
        script: Sequence[Event | Exception] = (),
        *,
        refusal: ClientError | NotTaken | None = None,
    ) -> None:
        self.condition = Condition.READY
        self.occupancy = Occupancy(slots=4, taken=(), waiting=0, kv_usage=0.0)
        self._script = script
        self._refusal = refusal
        self.requests: list[GenerationRequest] = []
        self.cancelled: list[str] = []
        """Ids of requests whose block was left before their events were over."""

    @asynccontextmanager
    async def generate(
        self, request: GenerationRequest
    ) -> AsyncIterator[AsyncIterator[list[Event]]]:
        await trio.lowlevel.checkpoint()
        if self._refusal is not None:
            raise self._refusal
        self.requests.append(request)
        events = Events(self._script)
        try:
            yield events
        finally:
            if not events.over:
                self.cancelled.append(request.request_id)


class Events(AsyncIterator[list[Event]]):
    """The events of one request, one at a time."""

    def __init__(self, script: Sequence[Event | Exception]) -> None:
        self._script = iter(script)
        self.over = False

    async def __anext__(self) -> list[Event]:
        await trio.lowlevel.checkpoint()
        event = next(self._script, None)
        if event is None:
            if not self.over:
                await trio.sleep_forever()
            raise StopAsyncIteration
        if isinstance(event, Exception):
            raise event
        self.over = isinstance(event, Finished | Failed)
        return [event]
