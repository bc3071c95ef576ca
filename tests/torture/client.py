"""What clients do, good ones and bad ones: connect, ask, read, leave. Knows bytes and sockets."""

import json
import re
import socket
import struct
from dataclasses import dataclass

import trio

from tests.http.framing_cases import head

HOST = b"127.0.0.1"
ROUTE = b"/api/v1/continue_from_raw_prompt"
KEY = b"the-key-of-the-canaries"
"""The server's API key."""
HEALTH = head(first=b"GET /health HTTP/1.1", host=HOST)
HEALTHY = b"\r\n\r\nOK"
"""How the answer to `HEALTH` ends."""
LAST_CHUNK = b"\r\n0\r\n\r\n"
_VARYING = re.compile(rb'\r\nDate: [^\r]*|"request_id":"[^"]*"')


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server listens."""

    port: int

    async def connect(self, *, receive_buffer: int | None = None) -> trio.SocketStream:
        stream = trio.socket.socket()
        if receive_buffer is not None:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await stream.connect((HOST.decode(), self.port))
        return trio.SocketStream(stream)


def head_of_post(*lines: bytes, key: bytes = KEY) -> bytes:
    """The head of a request for a generation."""
    fields = (b"Content-Type: application/json", b"Authorization: Bearer " + key, *lines)
    return head(*fields, first=b"POST %b HTTP/1.1" % ROUTE, host=HOST)


def post(body: bytes) -> bytes:
    return head_of_post(b"Content-Length: %d" % len(body)) + body


def ask(prompt: str, max_tokens: int) -> bytes:
    return post(json.dumps({"raw_prompt": prompt, "max_tokens": max_tokens}).encode())


async def read_until(stream: trio.SocketStream, *ends: bytes) -> bytes:
    """Read until a packet ends with one of `ends`, or to the end of the connection."""
    data = b""
    while not data.endswith(ends) and (more := await receive(stream)):
        data += more
    return data


async def read_all(stream: trio.SocketStream) -> bytes:
    """Read to the end of the connection."""
    data = b""
    while more := await receive(stream):
        data += more
    return data


async def receive(stream: trio.SocketStream) -> bytes:
    """Receive some bytes; none once the server has closed or reset."""
    try:
        return bytes(await stream.receive_some(65536))
    except trio.BrokenResourceError:
        return b""


async def send(stream: trio.SocketStream, data: bytes) -> None:
    """Send, unless the server has closed or reset."""
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        return


def reset(stream: trio.SocketStream) -> None:
    """Close with a reset."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def close(stream: trio.SocketStream) -> None:
    """Close in the ordinary way; with bytes unread, that too sends a reset."""
    stream.socket.close()


def half_close(stream: trio.SocketStream) -> None:
    """Close the sending side; the server's answers can still be read."""
    stream.socket.shutdown(socket.SHUT_WR)


def status_of(answer: bytes) -> int:
    """The first status in `answer` that is not interim (1xx); 0 if there is none."""
    found = re.search(rb"HTTP/1\.1 ([2-5]\d\d) ", answer)
    return int(found[1]) if found else 0


def comparable(answer: bytes) -> bytes:
    """An answer without what differs from one to the next by design."""
    return _VARYING.sub(b"", answer)
