"""What lies ready for one client, and how it waits for more."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from server.engine.events import Event, Text
from server.engine.stream import Events
from tests.engine.clients import heard, in_trio

A, B, C = Text("a"), Text("b"), Text("c")


@in_trio
async def test_what_is_there_comes_together() -> None:
    events = Events()
    events.add(A)
    events.add(B)
    assert await anext(events) == [A, B]
    events.add(C)
    events.end()
    assert await anext(events) == [C]
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(events)


@in_trio
async def test_who_waits_is_woken_once_for_all_that_came() -> None:
    async def read() -> None:
        read_at_once.extend([batch async for batch in events])

    events = Events()
    read_at_once: list[list[Event]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        events.add(A)
        events.add(B)
        await wait_all_tasks_blocked()
        events.add(C)
        events.end()
    assert read_at_once == [[A, B], [C]]


@in_trio
async def test_the_end_wakes_who_waits() -> None:
    events = Events()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heard, events)
        await wait_all_tasks_blocked()
        events.end()


@pytest.mark.parametrize("is_there", [False, True])
def test_a_reader_that_is_cancelled_takes_nothing_along(is_there: bool) -> None:
    @in_trio
    async def test() -> None:
        events = Events()
        if is_there:
            events.add(A)
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(events)
        assert scope.cancelled_caught
        if not is_there:
            events.add(A)
        assert await anext(events) == [A]

    test()


@in_trio
async def test_a_reader_that_is_cancelled_while_it_waits_takes_nothing_along() -> None:
    events = Events()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heard, events)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    events.add(A)
    assert await anext(events) == [A]
