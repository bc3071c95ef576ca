"""A whole conversation with the server, in memory and on the virtual clock."""

import re
from collections import deque
from collections.abc import Sequence

import trio
from trio.testing import MockClock

from server.config import Limits
from server.http.connection import serve_connection
from server.http.exchange import Exchange
from server.http.messages import Response
from server.http.open_connections import OpenConnections
from server.http.routing import Finder, Route, Router


class ScriptedClient(trio.abc.HalfCloseableStream):
    """The server's end of a connection whose packets are given beforehand.

    Each read gets one packet at most. After the last one the client is silent, or leaves.
    """

    def __init__(self, packets: Sequence[bytes], *, leaves: bool = False) -> None:
        self.sent = b"".join(packets)
        self._packets = deque(packets)
        self._leaves = leaves
        self.writes: list[bytes] = []
        self.closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._packets:
            if not self._leaves:
                await trio.sleep_forever()
            return b""
        packet = self._packets.popleft()
        if max_bytes is not None and len(packet) > max_bytes:
            self._packets.appendleft(packet[max_bytes:])
        return packet[:max_bytes]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.writes.append(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()

    @property
    def unread(self) -> int:
        """Bytes that the server has not taken."""
        return sum(map(len, self._packets))

    @property
    def transcript(self) -> bytes:
        """All that the server said, without what the real clock adds."""
        return re.sub(rb"\r\nDate: [^\r]*", b"", b"".join(self.writes))

    @property
    def statuses(self) -> list[int]:
        """Status codes in order, interim ones included."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.transcript)]


async def echo(exchange: Exchange) -> None:
    request = exchange.request
    said = f"{request.head.method} {request.head.path} {request.head.query} ".encode()
    await exchange.respond(Response(200, said + request.body))


ECHO = Router([Route("GET", "/", echo), Route("POST", "/", echo)])


def converse(
    *conversations: Sequence[bytes],
    router: Finder = ECHO,
    limits: Limits | None = None,
    leaves: bool = False,
) -> list[ScriptedClient]:
    """One client after the other sends its packets; how it went for each."""
    clients = [ScriptedClient(packets, leaves=leaves) for packets in conversations]

    async def serve_all() -> None:
        for client in clients:
            await serve_connection(client, router, limits or Limits(), OpenConnections(1))

    trio.run(serve_all, clock=MockClock(autojump_threshold=0))
    assert all(client.closed for client in clients)
    return clients


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]
