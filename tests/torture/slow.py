"""Clients that take their time: they cost little, hold much, and end at one of the deadlines."""

import trio

from tests.torture.client import Target, ask, head_of_post, receive, send
from tests.torture.tally import Tally
from tests.torture.victim import PHASE_SECONDS

_DRIP_SECONDS = 1.0
_GRACE_SECONDS = 1.0
_RECEIVE_BUFFER = 2048
"""Bytes; the kernel then buffers little more than one packet."""
_LONG = 3000
"""Tokens."""


async def silent(target: Target, tally: Tally) -> None:
    """Connects and never says anything."""
    await _drip(target, tally, b"", b"")


async def slow_head(target: Target, tally: Tally) -> None:
    """Slowloris: a head that never ends."""
    await _drip(target, tally, head_of_post()[:-2], b"A: b\r\n")


async def slow_body(target: Target, tally: Tally) -> None:
    """A body that arrives a byte at a time, slowly."""
    await _drip(target, tally, head_of_post(b"Content-Length: 1000"), b"{")


async def _drip(target: Target, tally: Tally, first: bytes, more: bytes) -> None:
    """Sends `first` and then `more` again and again, until the server closes."""
    async with await target.connect() as stream:
        deadline = trio.current_time() + PHASE_SECONDS + _GRACE_SECONDS
        await send(stream, first)
        while trio.current_time() < deadline:
            with trio.move_on_after(_DRIP_SECONDS):
                if not await receive(stream):
                    return
                continue
            await send(stream, more)
        tally.wrong.add("a connection outlived its deadline")


async def slow_reader(target: Target, tally: Tally) -> None:
    """Asks for a long stream and does not read it; leaves at the end, with all of it unread."""
    async with await target.connect(receive_buffer=_RECEIVE_BUFFER) as stream:
        await send(stream, ask("Once upon a time", _LONG))
        await tally.over.wait()


async def eager_reader(target: Target, tally: Tally) -> None:
    """Asks for the same stream, and reads it as it arrives."""
    async with await target.connect() as stream:
        await send(stream, ask("Once upon a time", _LONG))
        while not tally.over.is_set() and await receive(stream):
            pass
