"""Clients that leave too early, in every way there is."""

import random

import trio

from tests.torture.client import (
    HEALTH,
    HEALTHY,
    LAST_CHUNK,
    Target,
    ask,
    close,
    half_close,
    read_all,
    read_until,
    reset,
    send,
    status_of,
)
from tests.torture.tally import Tally

_PATIENCE_SECONDS = 0.1
"""An abort comes at any moment up to this: while a request waits, is read, or is answered."""
_WORDS = "the quick brown fox jumps over the lazy dog and "
_GENERATION = ask(_WORDS * 4, 30)


async def visit(target: Target, tally: Tally) -> None:
    """No attack: a health check on a connection of its own."""
    async with await target.connect() as stream:
        await send(stream, HEALTH)
        tally.check((await read_until(stream, HEALTHY)).endswith(HEALTHY), "no health")


async def read_it_all(target: Target, tally: Tally) -> None:
    """No attack: a short generation, read to its end."""
    async with await target.connect() as stream:
        await send(stream, ask(_WORDS * 4, 10))
        answer = await read_until(stream, LAST_CHUNK)
        tally.check(answer.endswith(LAST_CHUNK), "a stream has no end")


async def reset_in_the_middle(target: Target, tally: Tally) -> None:
    """Sends part of a request and resets the connection."""
    stream = await target.connect()
    await send(stream, _some_of(_GENERATION))
    await trio.sleep(random.random() * _PATIENCE_SECONDS)
    reset(stream)


async def half_close_in_the_middle(target: Target, tally: Tally) -> None:
    """Sends part of a request, half-closes and waits: the server is to close, too."""
    async with await target.connect() as stream:
        await send(stream, _some_of(_GENERATION))
        half_close(stream)
        with trio.move_on_after(3) as bound:
            tally.check(status_of(await read_all(stream)) < 500, "leaving was a fault")
        tally.check(not bound.cancelled_caught, "a half-closed connection stayed open")


async def abort(target: Target, tally: Tally) -> None:
    """Asks for a generation and leaves in the middle of it, in one way or another."""
    stream = await target.connect()
    await send(stream, _GENERATION)
    with trio.move_on_after(random.random() * _PATIENCE_SECONDS):
        await read_until(stream, LAST_CHUNK)
    random.choice([reset, half_close, close])(stream)
    stream.socket.close()


def _some_of(request: bytes) -> bytes:
    return request[: random.randrange(len(request))]
