"""One client on a real socket: what it notes, and how it ends."""

import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from trio.testing import wait_all_tasks_blocked

from model_tools.bench.serve.client import End, Exchange, exchange
from model_tools.bench.serve.dialect import DIALECTS
from model_tools.bench.serve.target import Target

SECONDS = 10.0
"""Longer than anything takes on a busy machine; a test that hangs ends here."""

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[Target]:
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield Target.of(f"http://127.0.0.1:{port}", DIALECTS["paddler"])
        nursery.cancel_scope.cancel()


def ask(serve: Serve, *, leaves_after: int | None = None, timeout: float = SECONDS) -> Exchange:
    async def run() -> Exchange:
        async with serving(serve) as target:
            call = target.get("/")
            now = time.perf_counter()
            return await exchange(target, call, due=now, timeout=timeout, leaves_after=leaves_after)

    return trio.run(run)


async def endless(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"piece")
    await trio.sleep_forever()


async def two_pieces(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"one")
    await stream.send_all(b"two")


async def last_chunk(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"5\r\npiece\r\n0\r\n\r\n")
    await trio.sleep_forever()


async def last_chunk_apart(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    for piece in (b"5\r\npiece\r\n", b"0\r\n", b"\r\n"):
        await stream.send_all(piece)
        await wait_all_tasks_blocked()
    await trio.sleep_forever()


async def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


def test_bytes_are_kept_with_their_times() -> None:
    seen = ask(two_pieces)
    assert seen.end is End.CLOSED
    assert b"".join(data for _, data in seen.arrivals) == b"onetwo"
    times = [seen.due, *(time for time, _ in seen.arrivals)]
    assert times == sorted(times)


def test_a_client_leaves_after_so_many_pieces() -> None:
    seen = ask(endless, leaves_after=1)
    assert (seen.end, len(seen.arrivals)) == (End.LEFT, 1)


def test_a_last_chunk_ends_it_though_the_connection_stays() -> None:
    assert ask(last_chunk).end is End.CLOSED


def test_a_last_chunk_may_come_in_pieces() -> None:
    seen = ask(last_chunk_apart)
    assert (seen.end, len(seen.arrivals)) == (End.CLOSED, 3)


def test_time_may_be_up() -> None:
    seen = ask(endless, timeout=0)
    assert (seen.end, seen.arrivals) == (End.TIMED_OUT, [])


def test_a_connection_may_break() -> None:
    seen = ask(reset)
    assert (seen.end, seen.arrivals) == (End.BROKEN, [])
