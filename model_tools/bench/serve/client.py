"""One client: sends a request, and records which bytes arrive when. Knows trio.

Does not parse anything: the client runs on the server's cores, and its work for each token would
slow down what it measures.
"""

import os
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

import trio

from model_tools.bench.serve.target import Call, Target

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

RECEIVE_BYTES = 65536
LAST_CHUNK = b"\n0\r\n\r\n"
"""The end of a chunked answer, for servers that keep the connection despite `Connection: close`."""


class End(Enum):
    """How an exchange ended."""

    UNCONNECTED = "there was no connection"
    CLOSED = "the server closed the connection"
    LEFT = "the client left"
    TIMED_OUT = "the time was up"
    BROKEN = "the connection broke"


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """What a client saw. Times are those of `time.perf_counter`, in seconds."""

    call: Call
    due: float
    """When the request was due: before the connection was made, whatever delayed it."""
    arrivals: list[tuple[float, bytes]]
    end: End
    refusal: str = ""
    """Why there was no connection, in the operating system's words."""


async def exchange(
    target: Target, call: Call, *, due: float, timeout: float, leaves_after: int | None = None
) -> Exchange:
    """Connects and sends at once, even if that is later than `due`. Never raises for anything that
    the server does. `timeout` is for the whole exchange from now on, in seconds."""
    arrivals: list[tuple[float, bytes]] = []
    end = End.TIMED_OUT
    with trio.move_on_after(timeout):
        try:
            stream = await _connect(target)
        except (OSError, trio.BrokenResourceError) as error:
            return Exchange(call, due, arrivals, End.UNCONNECTED, _refusal(error))
        try:
            async with stream:
                await stream.send_all(call.request)
                end = await _receive(stream, arrivals, leaves_after)
        except (OSError, trio.BrokenResourceError):
            end = End.BROKEN
    return Exchange(call, due, arrivals, end)


async def _connect(target: Target) -> Stream:
    """Raises `OSError`, or `trio.BrokenResourceError` if the TLS handshake fails."""
    stream = await trio.open_tcp_stream(target.host, target.port)
    if target.tls is None:
        return stream
    tls = trio.SSLStream(stream, target.tls, server_hostname=target.host, https_compatible=True)
    try:
        await tls.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(tls)
        raise
    return tls


def _refusal(error: OSError | trio.BrokenResourceError) -> str:
    """Why there was no connection; where Trio tried several addresses, why to the first one."""
    match error.__cause__:
        case ExceptionGroup(exceptions=(OSError(errno=int(number)), *_)):
            return os.strerror(number)
        case ssl.SSLCertVerificationError(verify_message=message):
            return f"TLS: {message}"
        case ssl.SSLError(reason=reason):
            return f"TLS: {reason}"
    return getattr(error, "strerror", None) or str(error) or End.BROKEN.value


async def _receive(
    stream: Stream, arrivals: list[tuple[float, bytes]], leaves_after: int | None
) -> End:
    """Records arrivals until the end. Without TLS it calls the socket's own `recv`, which avoids
    the stream's overhead for each token."""
    receive: Callable[[int], Awaitable[bytes | bytearray]] = stream.receive_some
    if isinstance(stream, trio.SocketStream):
        receive = stream.socket.recv
    last = b""
    while data := await receive(RECEIVE_BYTES):
        arrivals.append((time.perf_counter(), bytes(data)))
        last = (last + data)[-len(LAST_CHUNK) :]
        if last == LAST_CHUNK:
            break
        if leaves_after is not None and len(arrivals) >= leaves_after:
            return End.LEFT
    return End.CLOSED
