"""The same server on real sockets: what memory cannot show."""

import contextlib
import errno
import re
import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from server.config import Address, Limits, UnixAddress
from server.errors import StartError
from server.http.exchange import Exchange, Handler
from server.http.listener import bound_addresses, open_listeners, serve
from server.http.messages import Response
from server.http.open_connections import OpenConnections
from server.http.routing import Route, Router
from tests.http.conversation import ECHO, ScriptedClient, echo
from tests.http.framing_cases import head, sized

ANY_PORT = Address("127.0.0.1", 0)
SECONDS = 10.0
"""Longer than anything takes on a busy machine; a test that hangs ends here."""


class Endless:
    """A handler that streams until it is cancelled."""

    def __init__(self) -> None:
        self.started = trio.Event()
        self.cancelled = trio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        try:
            async with exchange.stream(200, ()) as send:
                await send(b"first\n")
                self.started.set()
                await trio.sleep_forever()
        finally:
            self.cancelled.set()


@asynccontextmanager
async def serving(
    handler: Handler,
    limits: Limits | None = None,
    at: Address | UnixAddress = ANY_PORT,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Address | UnixAddress]:
    """A server whose `/` is `handler`; leaving the block stops it."""
    router = Router([Route("GET", "/", handler), Route("GET", "/echo", echo)])
    [listener] = await open_listeners(at)
    [address] = bound_addresses([listener])
    async with trio.open_nursery() as nursery:
        chosen = limits or Limits()
        connections = OpenConnections(chosen.connections)
        nursery.start_soon(serve, listener, router, chosen, connections, tls)
        yield address
        nursery.cancel_scope.cancel()


async def connect(address: Address | UnixAddress) -> trio.SocketStream:
    if isinstance(address, UnixAddress):
        return await trio.open_unix_socket(address.path)
    return await trio.open_tcp_stream(address.host, address.port)


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    data = b""
    while end not in data:
        received = await stream.receive_some()
        assert received, data
        data += received
    return data


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(SECONDS):
            await test()

    trio.run(bounded)


def test_requests_are_answered() -> None:
    async def test() -> None:
        async with serving(echo) as address, await connect(address) as stream:
            for _ in range(3):
                await stream.send_all(head())
                assert (await read_until(stream, b"GET /  ")).startswith(b"HTTP/1.1 200 OK\r\n")

    run(test)


async def half_close(stream: trio.SocketStream) -> None:
    await stream.send_eof()


async def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


async def close(stream: trio.SocketStream) -> None:
    await stream.aclose()


AHEAD = pytest.param(
    head() * 300,
    id="much sent ahead",
    marks=pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells"),
)


@pytest.mark.parametrize("ahead", [pytest.param(b"", id="nothing sent ahead"), AHEAD])
@pytest.mark.parametrize("leave", [half_close, reset, close])
def test_leaving_cancels_the_handler(
    leave: Callable[[trio.SocketStream], Awaitable[None]], ahead: bytes
) -> None:
    async def test() -> None:
        endless = Endless()
        async with serving(endless) as address:
            async with await connect(address) as stream:
                await stream.send_all(head() + ahead)
                await read_until(stream, b"first\n")
                await leave(stream)
                await endless.cancelled.wait()
            async with await connect(address) as other:
                await other.send_all(head(first=b"GET /echo HTTP/1.1"))
                await read_until(other, b"GET /echo")

    run(test)


def test_a_stream_larger_than_the_sockets_room_arrives_whole() -> None:
    pieces = [b"%d " % number * 50_000 for number in range(9)]

    async def large(exchange: Exchange) -> None:
        async with exchange.stream(200, ()) as send:
            for piece in pieces:
                await send(piece)

    async def test() -> None:
        async with serving(large) as address, await connect(address) as stream:
            await stream.send_all(head())
            await wait_all_tasks_blocked()
            said = await read_until(stream, b"\r\n0\r\n\r\n")
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            assert said.partition(b"\r\n\r\n")[2] == body + b"0\r\n\r\n"

    run(test)


def test_who_sends_ahead_takes_turns_with_others() -> None:
    order: list[str] = []

    async def note(exchange: Exchange) -> None:
        order.append(exchange.request.head.query)
        await exchange.respond(Response(200, b"noted\n"))

    def ask(who: bytes) -> bytes:
        return head(first=b"GET /?%b HTTP/1.1" % who)

    async def test() -> None:
        [listener] = await open_listeners(ANY_PORT)
        [address] = bound_addresses([listener])
        router = Router([Route("GET", "/", note, immediate=True)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, router, Limits(), OpenConnections(9))
            async with await connect(address) as greedy, await connect(address) as modest:
                for stream in (greedy, modest):
                    await stream.send_all(ask(b"first"))
                    await read_until(stream, b"noted\n")
                await greedy.send_all(ask(b"greedy") * 50)
                await modest.send_all(ask(b"modest"))
                await read_until(modest, b"noted\n")
                assert order.count("greedy") < 50
            nursery.cancel_scope.cancel()

    run(test)


def test_while_draining_those_who_are_there_are_served() -> None:
    async def test() -> None:
        [listener] = await open_listeners(ANY_PORT)
        [address] = bound_addresses([listener])
        router = Router([Route("GET", "/", echo)])
        async with trio.open_nursery() as nursery:
            connections = OpenConnections(9)
            nursery.start_soon(serve, listener, router, Limits(), connections)
            async with await connect(address) as stream:
                for draining in (False, True):
                    await stream.send_all(head())
                    said = await read_until(stream, b"GET /  ")
                    assert said.startswith(b"HTTP/1.1 200 OK")
                    assert (b"\r\nConnection: close\r\n" in said) is draining
                    if not draining:
                        connections.drain()
                        await wait_all_tasks_blocked()
                        with pytest.raises(OSError, match="connect"):
                            await connect(address)
                assert await stream.receive_some() == b""
        # The last one has left, and so did `serve`.

    run(test)


def test_stopping_cuts_streams_without_a_last_chunk() -> None:
    async def test() -> None:
        async with contextlib.AsyncExitStack() as stack:
            async with serving(Endless()) as address:
                stream = await stack.enter_async_context(await connect(address))
                await stream.send_all(head())
                said = await read_until(stream, b"first\n\r\n")
            assert said.endswith(b"\r\n6\r\nfirst\n\r\n")
            assert await stream.receive_some() == b""
            with pytest.raises(OSError, match="connect"):
                await connect(address)

    run(test)


def test_a_refusal_arrives_although_more_was_sent() -> None:
    async def test() -> None:
        async with serving(echo) as address, await connect(address) as stream:
            await stream.send_all(sized(b"99999999", b"a" * 1_000_000))
            assert (await read_until(stream, b"too long\n")).startswith(b"HTTP/1.1 413 ")

    run(test)


def test_one_client_too_many_ends_the_one_that_says_nothing() -> None:
    async def test() -> None:
        endless = Endless()
        async with (
            serving(endless, Limits(connections=1)) as address,
            await connect(address) as silent,
            await connect(address) as busy,
        ):
            assert await silent.receive_some() == b""
            await busy.send_all(head())
            await endless.started.wait()
            async with await connect(address) as refused:
                await read_until(refused, b"busy\n")
            assert not endless.cancelled.is_set()

    run(test)


class Short(trio.abc.Listener[ScriptedClient]):
    """Has a file descriptor for its one client from a time on."""

    def __init__(self, client: ScriptedClient, time: float) -> None:
        self._clients = [client]
        self._time = time

    async def accept(self) -> ScriptedClient:
        await trio.lowlevel.checkpoint()
        if trio.current_time() < self._time:
            raise OSError(errno.EMFILE, "Too many open files")
        if not self._clients:
            await trio.sleep_forever()
        return self._clients.pop()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def test_without_a_descriptor_a_client_waits_and_the_log_says_so_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = ScriptedClient([head(b"Connection: close")])

    async def main() -> None:
        connections = OpenConnections(9)
        async with trio.open_nursery() as nursery:
            listener = Short(client, trio.current_time() + 90)
            nursery.start_soon(serve, listener, ECHO, Limits(), connections)
            await trio.sleep(100)
            connections.drain()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert client.statuses == [200]
    said = [(record.getMessage(), record.exc_info) for record in caplog.records]
    assert said == [("no client can be accepted for now: Too many open files", None)] * 2


def test_who_was_refused_by_its_head_waits_from_then_on() -> None:
    async def test() -> None:
        async with (
            serving(echo, Limits(connections=2)) as address,
            await connect(address) as first,
            await connect(address) as second,
        ):
            for stream in (first, second):
                await stream.send_all(head())
                await read_until(stream, b"GET /  ")
                await wait_all_tasks_blocked()  # the server knows, too, that it has answered
            await first.send_all(head(first=b"GET /nowhere HTTP/1.1"))
            await read_until(first, b"at this path")
            async with await connect(address):
                assert await second.receive_some() == b""

    run(test)


def test_a_port_in_use_is_one_line() -> None:
    async def test() -> None:
        [listener] = await open_listeners(ANY_PORT)
        [address] = bound_addresses([listener])
        async with listener:
            with pytest.raises(StartError, match=re.escape(f"cannot listen on {address}: ")):
                await open_listeners(address)

    run(test)


@pytest.mark.parametrize("host", ["nowhere.invalid", "127.0.0..1", "a" * 64])
def test_an_unknown_host_is_one_line(host: str) -> None:
    async def test() -> None:
        with pytest.raises(StartError, match=re.escape(f"cannot listen on {host}:80: ")):
            await open_listeners(Address(host, 80))

    run(test)


def test_any_port_is_one_port() -> None:
    async def test() -> None:
        listeners = await open_listeners(Address("localhost", 0))
        [address] = bound_addresses(listeners)
        assert isinstance(address, Address)
        assert address.port != 0
        await listeners[0].aclose()

    run(test)
