"""One client's connection: read a request, have a handler answer it, and repeat.

Reads and writes the client's stream (through `at_once`). Every wait for the client has a deadline
(handshake, idle, head, body, write, linger) except the one in `_watch`, which lasts as long as the
answer. Knows no h11 (`protocol.py` does) and no JSON.
"""

import logging
import math
import secrets
from contextlib import suppress
from typing import NoReturn

import trio

from server.config import Limits
from server.http.at_once import end_at_once, hold_back, hung_up, receive, send_at_once
from server.http.exchange import Exchange, answer
from server.http.messages import Request, RequestHead
from server.http.open_connections import OpenConnections
from server.http.protocol import Protocol
from server.http.refusal import Refusal
from server.http.routing import Finder, Route
from server.http.tls import TlsStream

log = logging.getLogger(__name__)

_HEAD_READ = 4 * 1024
"""Bytes of one read while a head is awaited: what a head may cost is counted per read."""
_BODY_READ = 16 * 1024
_CHUNKS_READ = 4 * 1024
"""Bytes of one read of a chunked body. So many in tiny chunks hold the event loop, and every other
stream with it, for 0.4 ms."""
_LINGER_SECONDS = 2.0
_LINGER_BODIES = 2
"""A connection that lingers reads, and discards, at most so many times the largest body."""
_ALL_BUSY = "every connection of this server is busy"
_SHUTTING_DOWN = "the server is shutting down"
_RETRY_AFTER = ((b"Retry-After", b"1"),)


async def serve_connection(
    stream: trio.abc.HalfCloseableStream,
    router: Finder,
    limits: Limits,
    connections: OpenConnections,
) -> None:
    """Serve one client until it leaves or has to; closes `stream`. Raises only cancellation."""
    try:
        await Connection(stream, router, limits, connections).serve()
    except Exception:
        log.exception("a connection failed")
    finally:
        await trio.aclose_forcefully(stream)


class Connection:
    """A client's stream and the state of HTTP on it."""

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        router: Finder,
        limits: Limits,
        connections: OpenConnections,
    ) -> None:
        self._stream = stream
        self._router = router
        self._limits = limits
        self._connections = connections
        self._protocol = Protocol(limits, lambda: connections.draining)
        self._scope = trio.CancelScope()
        """Around all work for the client; cancelled when the client is gone or has to go."""

    async def serve(self) -> None:
        """Answer requests, one after the other, as long as the connection lasts."""
        with self._scope:
            try:
                admitted = self._connections.add(self._scope)
                await self._shake_hands()
                if not admitted:
                    await self._refuse(Refusal(503, _ALL_BUSY, _RETRY_AFTER))
                    await self._linger()
                while admitted and await self._serve_request() and not self._connections.closed:
                    pass
            finally:
                self._connections.remove(self._scope)
        if self._connections.closed:
            await self._shut_down()

    async def _shut_down(self) -> None:
        """At the server's shutdown, refuse a request that has arrived in part, and linger after an
        answer that has begun: neither client is just cut off."""
        self._scope = trio.CancelScope()
        with self._scope:
            if self._protocol.request_begun and not self._protocol.response_begun:
                await self._refuse(Refusal(503, _SHUTTING_DOWN, _RETRY_AFTER))
            if self._protocol.response_begun:
                await self._linger()

    async def _shake_hands(self) -> None:
        """Do the TLS handshake, if there is TLS, within the time limit for a head."""
        if not isinstance(self._stream, TlsStream):
            return
        try:
            with trio.fail_after(self._limits.head_seconds):
                await self._stream.handshake()
        except trio.BrokenResourceError:
            await self._leave("the TLS handshake failed")
        except trio.TooSlowError:
            await self._leave("the TLS handshake took too long")

    async def _serve_request(self) -> bool:
        """Answer one request; return whether another one can follow."""
        try:
            head = await self._read_head()
            if head is None:
                return False
            route = self._router.find(head)
            self._protocol.route_headers = route.headers
            body = await self._read_body(head)
        except Refusal as refusal:
            await self._refuse(refusal)
        else:
            # It may have had to go in the same turn as its request arrived.
            await trio.lowlevel.checkpoint_if_cancelled()
            self._connections.request_arrived(self._scope)
            request = Request(secrets.token_urlsafe(16)[:21], head, body)
            await self._answer(route, Exchange(request, self._protocol, self._send))
        self._connections.request_answered(self._scope)
        if self._protocol.start_next_cycle():
            return True
        await self._linger()
        return False

    async def _refuse(self, refusal: Refusal) -> None:
        log.debug("refused with %d: %s", refusal.status, refusal.sentence)
        data = self._protocol.refusal(refusal)
        if self._protocol.must_close:
            hold_back(self._stream)
        await self._send(data)

    async def _read_head(self) -> RequestHead | None:
        """Return the next request's head; None when the client sends no more. Raises `Refusal`."""
        head = None
        if self._protocol.buffered:
            await trio.lowlevel.checkpoint()  # a client that pipelines takes turns with all others
            await self._connections.take_turn(self._scope)
            head = self._protocol.next_head()
        # An empty line before a request is no part of it: the client is still idle.
        while not self._protocol.request_begun:
            if not await self._wait_for_request():
                return None
            await self._connections.take_turn(self._scope)
            head = self._protocol.next_head()
        # Most heads come in one packet, and a deadline that is not set costs nothing.
        if head is not None:
            return head
        with trio.move_on_after(self._limits.head_seconds):
            while await self._receive(_HEAD_READ):
                head = self._protocol.next_head()
                if head is not None:
                    return head
            return None
        raise Refusal(408, "the head of the request took too long")

    async def _wait_for_request(self) -> bool:
        self._end_after(self._limits.idle_seconds)
        arrived = await self._receive(_HEAD_READ)
        self._end_after(math.inf)
        return arrived

    def _end_after(self, seconds: float) -> None:
        """Set the connection's deadline, from now. Moving one deadline costs less than a scope for
        each read and write."""
        self._scope.deadline = trio.current_time() + seconds

    async def _read_body(self, head: RequestHead) -> bytes:
        """Read the request's body. Raises `Refusal`."""
        if self._protocol.request_complete:
            return b""
        if head.expects_continue:
            await self._send(self._protocol.proceed())
        body = bytearray(self._protocol.next_content())
        if self._protocol.request_complete:  # it came with the head, and needs no deadline
            return bytes(body)
        max_bytes = _BODY_READ if head.content_length is not None else _CHUNKS_READ
        with trio.move_on_after(self._limits.body_seconds):
            while await self._receive(max_bytes):
                body += self._protocol.next_content()
                if self._protocol.request_complete:
                    return bytes(body)
            await self._leave("the client left in the middle of a body")
        raise Refusal(408, "the body of the request took too long")

    async def _answer(self, route: Route, exchange: Exchange) -> None:
        if route.immediate:
            await answer(route.handler, exchange)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, exchange)
            await answer(route.handler, exchange)
            nursery.cancel_scope.cancel()

    async def _watch(self, exchange: Exchange) -> None:
        """Drop the connection if the client leaves while it is being answered.

        A client that has closed its sending side counts as gone, as with Paddler. Bytes that it
        sends ahead are kept for the next request, up to a few KiB; a client that sends more is not
        read from until it is answered.
        """
        if exchange.answered:  # in one write, before this task began
            return
        while (room := self._limits.read_ahead_bytes - self._protocol.buffered) > 0:
            if not await self._receive(room):
                break
        else:
            await hung_up(self._stream)
        if not exchange.answered:
            await self._leave("the client left before it was answered")

    async def _receive(self, max_bytes: int) -> bool:
        """Read bytes from the client; return False when no more will come."""
        try:
            data = await receive(self._stream, max_bytes)
        except trio.BrokenResourceError:
            return False
        self._protocol.receive(data)
        return bool(data)

    async def _send(self, data: bytes) -> None:
        """Write all of `data` to the client, without waiting where possible."""
        sent = send_at_once(self._stream, data)
        if sent == len(data):
            return
        self._end_after(self._limits.write_seconds)
        try:
            await self._stream.send_all(data[sent:])
        except trio.BrokenResourceError:
            await self._leave("the client reset the connection")
        self._end_after(math.inf)

    async def _leave(self, reason: str) -> NoReturn:
        """Drop the connection: cancel all work for it, this call included."""
        log.debug("connection dropped: %s", reason)
        self._scope.cancel()
        await trio.sleep_forever()

    async def _linger(self) -> None:
        """Close so that the client sees the last response (RFC 9112, section 9.6).

        Closing while bytes from the client are unread would reset the connection, and a reset can
        overtake the response.
        """
        self._end_after(_LINGER_SECONDS)
        with suppress(trio.BrokenResourceError):
            if not end_at_once(self._stream):
                await self._stream.send_eof()
            left = _LINGER_BODIES * self._limits.body_bytes
            while left > 0 and (data := await receive(self._stream, _BODY_READ)):
                left -= len(data)
