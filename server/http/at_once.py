"""What a socket takes without waiting, and gives once it says that it can. Knows trio's streams as
sockets of the system; no HTTP."""

import os
import select
import socket
from contextlib import suppress

import trio

from server.http.tls import TlsStream

_CORK = getattr(socket, "TCP_CORK", None)
"""Linux only; elsewhere the last bytes and the end are two packets."""


def send_at_once(stream: trio.abc.Stream, data: bytes) -> int:
    """How many bytes of `data` the stream took: all of them, nearly always, in half the time that
    trio's `send_all` takes, which lets all other tasks run first.

    0 where only trio knows how to send, has to wait, or will say what is wrong.
    """
    if not isinstance(stream, trio.SocketStream):
        return 0
    try:
        return os.write(stream.socket.fileno(), data)  # no socket of trio's ever blocks
    except OSError:
        return 0


async def receive(stream: trio.abc.ReceiveStream, most: int) -> bytes | bytearray:
    """The next bytes, `most` at most; none at the end. Waits and then looks, in four fifths of
    the time that trio's `receive_some` takes, which looks first, nearly always in vain.

    Raises `trio.BrokenResourceError`.
    """
    if isinstance(stream, trio.SocketStream):
        await trio.lowlevel.wait_readable(stream.socket)
        try:
            return os.read(stream.socket.fileno(), most)
        except BlockingIOError:
            pass  # a system may err about what can be read
        except OSError as error:
            raise trio.BrokenResourceError from error
    return await stream.receive_some(most)


async def hung_up(stream: trio.abc.Stream) -> None:
    """Return when the client has closed its sending side or the connection, though bytes that it
    sent before are still unread. Only Linux tells; elsewhere this waits for ever.
    """
    transport = stream.transport if isinstance(stream, TlsStream) else stream
    if not isinstance(transport, trio.SocketStream) or not hasattr(select, "EPOLLRDHUP"):
        await trio.sleep_forever()
    with select.epoll() as hang_ups:
        hang_ups.register(transport.socket, select.EPOLLRDHUP)
        await trio.lowlevel.wait_readable(hang_ups)


def hold_back(stream: trio.abc.Stream) -> None:
    """Keep what is sent from now on until `send_eof` or the stream's close, a fifth of a second at
    most: what ends a connection then is one packet, and wakes its client once. Where that is not
    known, nothing changes.
    """
    if _CORK is not None and isinstance(stream, trio.SocketStream):
        with suppress(OSError):  # a UNIX socket knows no packets
            stream.setsockopt(socket.IPPROTO_TCP, _CORK, 1)


def end_at_once(stream: trio.abc.Stream) -> bool:
    """Whether the sending side is closed now; where not, trio will do it, or say what is wrong."""
    if not isinstance(stream, trio.SocketStream):
        return False
    try:
        stream.socket.shutdown(socket.SHUT_WR)
    except OSError:
        return False
    return True
