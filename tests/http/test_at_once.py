"""What the system does with bytes, which no stream in memory can show."""

import select
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from server.http.at_once import hold_back, hung_up, receive, send_at_once

WORDS = b"last words"


def tcp() -> Sequence[socket.socket]:
    """Both ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


def run(client: socket.socket, server: socket.socket, *, told_before: bytes) -> None:
    async def test() -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(server))
        hold_back(stream)
        assert send_at_once(stream, WORDS) == len(WORDS)
        assert _what_is_there(client) == told_before
        await stream.send_eof()
        client.setblocking(True)
        assert client.recv(99) == WORDS
        assert client.recv(99) == b""

    with client, server:
        trio.run(test)


def _what_is_there(client: socket.socket) -> bytes:
    try:
        return client.recv(99, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems hold nothing back")
def test_what_is_held_back_comes_with_the_end() -> None:
    run(*tcp(), told_before=b"")


def test_a_unix_socket_holds_nothing_back() -> None:
    run(*socket.socketpair(), told_before=WORDS)


def receiving(client: socket.socket, server: socket.socket) -> list[bytes]:
    """What comes until the end, a byte late."""
    received: list[bytes] = []

    async def test() -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(server))
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(_speak, client)
            while data := bytes(await receive(stream, 4)):
                received.append(data)

    trio.run(test)
    return received


async def _speak(client: socket.socket) -> None:
    await trio.testing.wait_all_tasks_blocked()
    client.sendall(WORDS)
    client.close()


def test_what_comes_is_received_in_pieces_until_the_end() -> None:
    assert receiving(*tcp()) == [b"last", b" wor", b"ds"]


def test_a_system_that_errs_about_what_can_be_read_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited = trio.lowlevel.wait_readable
    asked = iter([trio.lowlevel.checkpoint])

    async def wait_readable(sock: trio.socket.SocketType) -> None:
        await next(asked, lambda: waited(sock))()

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_readable)
    assert receiving(*tcp()) == [b"last", b" wor", b"ds"]


def test_a_reset_is_no_end() -> None:
    client, server = tcp()

    async def test() -> None:
        async with trio.SocketStream(trio.socket.from_stdlib_socket(server)) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await receive(stream, 4)

    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    trio.run(test)


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells")
def test_waiting_for_a_hang_up_opens_no_file() -> None:
    client, server = tcp()

    async def test() -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(server))
        async with stream, trio.open_nursery() as nursery:
            before = open_files()
            nursery.start_soon(hung_up, stream)
            await trio.testing.wait_all_tasks_blocked()
            assert open_files() == before
            client.sendall(WORDS)
            client.shutdown(socket.SHUT_WR)

    with client:
        trio.run(test)
