"""Common to all generation routes: the engine, and the path of its events to the client.

Knows neither a request's JSON nor an envelope's.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from server.api.envelopes import LINE, Envelopes
from server.api.operation import Answer
from server.engine.condition import Condition
from server.engine.events import Event, NotTaken
from server.engine.facts import Occupancy
from server.engine.request import GenerationRequest
from server.http.exchange import Exchange
from server.http.messages import Response

STREAM = Answer(
    "application/json",
    LINE,
    "One JSON value in each line, one line for each token. The last one is `Done` or an `Error`.",
)
_HEADERS = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-cache"))


class Generator(Protocol):
    """The engine, as the routes see it."""

    @property
    def condition(self) -> Condition:
        """Whether requests are taken."""

    @property
    def occupancy(self) -> Occupancy:
        """How full it is now."""

    def generate(
        self, request: GenerationRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[list[Event]]]:
        """Yield the events of `request`, the last one terminal; leaving the block cancels it.

        Entering raises NotTaken if the engine takes no request now, and ClientError if it cannot
        serve this one; after that, the request is accepted.
        """


async def stream_events(engine: Generator, request: GenerationRequest, exchange: Exchange) -> None:
    """Generate, and send each event as a line and a chunk of its own. Events that are there at the
    same time go out in one write."""
    envelopes = Envelopes(request.request_id)
    fault = envelopes.error(500, "Internal server error")
    try:
        async with (
            engine.generate(request) as events,
            exchange.stream(200, _HEADERS, error_chunk=fault) as send,
        ):
            async for batch in events:
                await send(*map(envelopes.encode, batch))
    except NotTaken as refusal:
        # One write for head and line, since these come in bursts.
        line = envelopes.encode(refusal.failed)
        await exchange.respond(Response(200, line, _HEADERS))
