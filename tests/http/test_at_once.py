"""What the system does with bytes, which no stream in memory can show."""

import socket
import sys
from collections.abc import Sequence

import pytest
import trio

from server.http.at_once import hold_back, send_at_once

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
