"""Writes to a socket without waiting and reads from it once it is readable, both faster than trio,
and notices that a client has hung up. Knows the system's sockets beneath trio's streams; no HTTP.
"""

import os
import select
import socket
from contextlib import suppress

import trio

from server.http.tls import TlsStream

_CORK = getattr(socket, "TCP_CORK", None)
"""Linux only; elsewhere the last bytes and the end of the stream are two packets."""
_HANG_UP_SECONDS = 0.1
"""From one look for a hang-up to the next."""


def send_at_once(stream: trio.abc.Stream, data: bytes) -> int:
    """Send what the stream takes without waiting; return the number of bytes: nearly always all of
    `data`, in half the time of trio's `send_all`, which lets all other tasks run first.

    0 if the stream is no plain socket (TLS), if it takes nothing now, or on an error: `send_all`
    then sends, waits or raises.
    """
    if not isinstance(stream, trio.SocketStream):
        return 0
    try:
        return os.write(stream.socket.fileno(), data)  # no socket of trio's ever blocks
    except OSError:
        return 0


async def receive(stream: trio.abc.ReceiveStream, max_bytes: int) -> bytes | bytearray:
    """Return the next bytes, up to `max_bytes`; none at the end. Waits and then reads, in four
    fifths of the time of trio's `receive_some`, which tries to read first, nearly always in vain.

    Raises `trio.BrokenResourceError`.
    """
    if isinstance(stream, trio.SocketStream):
        await trio.lowlevel.wait_readable(stream.socket)
        try:
            return os.read(stream.socket.fileno(), max_bytes)
        except BlockingIOError:
            pass  # a system may report a socket as readable that is not
        except OSError as error:
            raise trio.BrokenResourceError from error
    return await stream.receive_some(max_bytes)


async def hung_up(stream: trio.abc.Stream) -> None:
    """Return when the client has closed its sending side or the connection, though bytes that it
    sent before are still unread. Only Linux tells; elsewhere this waits for ever.
    """
    transport = stream.transport if isinstance(stream, TlsStream) else stream
    if not isinstance(transport, trio.SocketStream) or not hasattr(select, "POLLRDHUP"):
        await trio.sleep_forever()
    # Rejected: an epoll, which trio can wait for, but which is one more open file for each client.
    hang_ups = select.poll()
    hang_ups.register(transport.socket, select.POLLRDHUP)
    while not hang_ups.poll(0):
        await trio.sleep(_HANG_UP_SECONDS)


def hold_back(stream: trio.abc.Stream) -> None:
    """Hold back all bytes from now on until `send_eof` or the stream's close, a fifth of a second
    at most. The last bytes of a connection and its end are then one packet, which wakes the client
    once. Does nothing where the system or the stream does not support it.
    """
    if _CORK is not None and isinstance(stream, trio.SocketStream):
        with suppress(OSError):  # a UNIX socket knows no packets
            stream.setsockopt(socket.IPPROTO_TCP, _CORK, 1)


def end_at_once(stream: trio.abc.Stream) -> bool:
    """Close the sending side; False if that failed: trio's `send_eof` then does it, or raises."""
    if not isinstance(stream, trio.SocketStream):
        return False
    try:
        stream.socket.shutdown(socket.SHUT_WR)
    except OSError:
        return False
    return True
