"""How many clients come, and when. Does not know what they do."""

import random
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from tests.torture.client import Target
from tests.torture.tally import Tally

Client = Callable[[Target, Tally], Awaitable[None]]
_CLIENT_SECONDS = 15.0
"""Longer than any client of ours takes, unless the server forgets it."""


class Attack(Protocol):
    """Starts, goes on until the tally's `over` is set, and waits for its clients to leave."""

    async def __call__(
        self, target: Target, tally: Tally, *, task_status: trio.TaskStatus[None]
    ) -> None: ...


async def nobody(target: Target, tally: Tally, *, task_status: trio.TaskStatus[None]) -> None:
    """No attack."""
    task_status.started()


def standing(count: int, client: Client) -> Attack:
    """`count` clients, a thousand a second; the attack has started once all are there."""

    async def attack(target: Target, tally: Tally, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(_bounded, client, target, tally)
                await trio.sleep(0.001)
            task_status.started()

    return attack


def burst(count: int, client: Client) -> Attack:
    """`count` clients at once, when the measurement begins."""

    async def attack(target: Target, tally: Tally, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await tally.heard.wait()
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(_bounded, client, target, tally)

    return attack


def coming(per_second: float, client: Client) -> Attack:
    """New clients at random moments, `per_second` on average."""

    async def attack(target: Target, tally: Tally, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        async with trio.open_nursery() as nursery:
            while not tally.over.is_set():
                nursery.start_soon(_bounded, client, target, tally)
                await trio.sleep(random.expovariate(per_second))

    return attack


def regulars(count: int, client: Client) -> Attack:
    """`count` clients, each of which comes again as soon as it was served."""

    async def attack(target: Target, tally: Tally, *, task_status: trio.TaskStatus[None]) -> None:
        async def come_again() -> None:
            while not tally.over.is_set():
                await _bounded(client, target, tally)

        task_status.started()
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(come_again)

    return attack


def together(*attacks: Attack) -> Attack:
    """All these attacks at the same time."""

    async def attack(target: Target, tally: Tally, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            for each in attacks:
                await nursery.start(each, target, tally)
            task_status.started()

    return attack


async def _bounded(client: Client, target: Target, tally: Tally) -> None:
    tally.count += 1
    with trio.move_on_after(_CLIENT_SECONDS) as bound:
        try:
            await client(target, tally)
        except OSError as error:
            tally.wrong.add(f"a client could not go on: {error}")
    tally.check(not bound.cancelled_caught, "a client was forgotten")
