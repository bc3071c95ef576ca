"""One request and its one response, as a handler sees them. Knows no h11, no socket and no JSON."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Protocol as Typed

from server.errors import ClientError
from server.http.messages import Headers, Request, Response, text
from server.http.protocol import Protocol

log = logging.getLogger(__name__)

Send = Callable[[bytes], Awaitable[None]]
"""Writes bytes to the client; cancels its caller when the client cannot take them."""


class SendPieces(Typed):
    """Like `Send`, for pieces of a body: each becomes a chunk, and all go out in one write."""

    async def __call__(self, *pieces: bytes) -> None: ...


class _Progress(Enum):
    NOTHING = "nothing was sent"
    BODY = "the body is being sent"
    ALL = "all was sent"


class Exchange:
    """A request and the means to answer it. The handler answers exactly once, by `respond` or by
    `stream`.

    A client that leaves, or takes no bytes for too long, cancels the handler.
    """

    def __init__(self, request: Request, protocol: Protocol, send: Send) -> None:
        self.request = request
        self._protocol = protocol
        self._send = send
        self._progress = _Progress.NOTHING
        self._error_chunk = b""

    @property
    def unanswered(self) -> bool:
        """Whether no part of a response was sent yet."""
        return self._progress is _Progress.NOTHING

    @property
    def answered(self) -> bool:
        """Whether the whole response was handed over for sending."""
        return self._progress is _Progress.ALL

    async def respond(self, response: Response) -> None:
        """Send a whole response in one write."""
        data = self._protocol.whole(response)
        self._progress = _Progress.ALL
        await self._send(data)

    @asynccontextmanager
    async def stream(
        self, status: int, headers: Headers, *, error_chunk: bytes = b""
    ) -> AsyncIterator[SendPieces]:
        """Send a response's head; yield what sends pieces of its body, in one write per call.

        The head goes out at once: the client learns that its request was accepted while it waits
        for the first chunk. Leaving the block ends the body. An exception does not: the connection
        is then closed without a last chunk, so that nobody takes the part for the whole. But if
        there is an `error_chunk` and it was no cancellation, that is sent as a chunk of its own and
        ends the body.
        """
        data = self._protocol.start(status, headers)
        self._progress = _Progress.BODY
        self._error_chunk = error_chunk
        await self._send(data)
        yield self._send_pieces
        await self._end()

    async def _send_pieces(self, *pieces: bytes) -> None:
        await self._send(self._protocol.chunks(pieces))

    async def _end(self) -> None:
        data = self._protocol.end()
        self._progress = _Progress.ALL
        await self._send(data)

    async def fail(self) -> None:
        """Tell the client that the server is at fault, as far as the response still allows."""
        if self._progress is _Progress.NOTHING:
            sentence = f"internal error while answering request {self.request.id}"
            await self.respond(text(500, sentence))
        elif self._progress is _Progress.BODY and self._error_chunk:
            await self._send_pieces(self._error_chunk)
            await self._end()


Handler = Callable[[Exchange], Awaitable[None]]


async def answer(handler: Handler, exchange: Exchange) -> None:
    """Call `handler`, and answer in its place if it fails. Raises nothing but cancellation."""
    try:
        await handler(exchange)
        if exchange.unanswered:
            raise RuntimeError("the handler gave no response")  # noqa: TRY301 - logged like any fault
    except Exception as error:
        if isinstance(error, ClientError) and exchange.unanswered:
            await exchange.respond(text(error.status, error.sentence))
            return
        head = exchange.request.head
        log.exception("request %s: %s %s failed", exchange.request.id, head.method, head.path)
        await exchange.fail()
