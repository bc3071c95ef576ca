"""Listeners, and the clients that they accept. Knows connections, but no protocol on them.

    [listener] = await open_listeners(Address("127.0.0.1", 8061))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, router, Limits(), OpenConnections(512))
        print("ready at", *bound_addresses([listener]))

Cancelling `serve` closes the listener and every connection at once, in the middle of a stream too.
Call `OpenConnections.drain` and `OpenConnections.close` before it, to let clients know.
"""

import logging
import math
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import NoReturn

import trio

from server.config import Address, Limits, UnixAddress
from server.errors import StartError
from server.http.connection import serve_connection
from server.http.open_connections import OpenConnections
from server.http.routing import Finder
from server.http.tls import TlsStream
from server.http.unix_socket import UnixListener, open_unix_listener

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.1
"""After a client could not be accepted."""
_SILENT_SECONDS = 60.0
"""Between two lines of the log about that."""

Listener = trio.SocketListener | UnixListener


async def open_listeners(address: Address | UnixAddress) -> Sequence[Listener]:
    """Listen on `address`; a host name with several addresses gives several listeners.

    With port 0 only the first of them is used, so that there is one port to report. Raises
    StartError.
    """
    if isinstance(address, UnixAddress):
        return [open_unix_listener(address)]
    try:
        listeners = await trio.open_tcp_listeners(address.port, host=address.host)
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from error
    except UnicodeError as error:  # from the codec of host names
        raise StartError(f"cannot listen on {address}: that is no host name") from error
    if address.port == 0:
        for listener in listeners[1:]:
            await listener.aclose()
        del listeners[1:]
    return listeners


def adopt(sockets: Sequence[socket.socket]) -> Sequence[Listener]:
    """Return listeners on sockets that another process opened, and whose UNIX files it keeps."""
    return [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in sockets]


def bound_addresses(
    listeners: Sequence[Listener],
) -> list[Address | UnixAddress]:
    """Return where the listeners listen, with the ports that the system chose."""
    names = (listener.socket.getsockname() for listener in listeners)
    return [UnixAddress(name) if isinstance(name, str) else Address(*name[:2]) for name in names]


async def serve(
    listener: trio.abc.Listener[trio.abc.HalfCloseableStream],
    router: Finder,
    limits: Limits,
    connections: OpenConnections,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Accept clients until `connections` drain, and serve them until they have all left; closes
    `listener`. With `tls`, every connection must use TLS."""
    async with trio.open_nursery() as clients:

        def welcome(stream: trio.abc.HalfCloseableStream) -> None:
            client = TlsStream(stream, tls) if tls else stream
            clients.start_soon(serve_connection, client, router, limits, connections)

        with connections.accepting():
            async with listener:
                await _accept(listener, welcome)


async def _accept(
    listener: trio.abc.Listener[trio.abc.HalfCloseableStream],
    welcome: Callable[[trio.abc.HalfCloseableStream], None],
) -> NoReturn:
    """Call `welcome` for each client. Rejected: trio's `serve_listeners`, which logs ten tracebacks
    a second while there is no file descriptor for another client."""
    silent_until = -math.inf
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:  # no descriptor or no memory, until clients give some back
            if trio.current_time() >= silent_until:
                log.warning("no client can be accepted for now: %s", error.strerror)
                silent_until = trio.current_time() + _SILENT_SECONDS
            await trio.sleep(_RETRY_SECONDS)
        else:
            welcome(stream)
