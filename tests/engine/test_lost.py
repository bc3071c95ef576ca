"""An engine that ends by itself or hangs: who is told, and that it is given up."""

import threading

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from server.config import EngineLimits
from server.engine.condition import Condition
from server.engine.engine import FINAL_ERRORS, Engine
from server.engine.events import Event, Text
from server.engine.watched_thread import EngineLost
from tests.engine.clients import (
    Held,
    asks,
    collect,
    engine_of,
    expected,
    heard,
    in_trio,
    on_clock,
    passing,
    told,
)
from tests.engine.fake_decoder import FakeDecoder, Misused

LOST = [FINAL_ERRORS[Condition.LOST]]
LIMITS = EngineLimits(buffered_seconds=1000, progress_seconds=1000)


def lost() -> "pytest.RaisesGroup[EngineLost]":
    return pytest.RaisesGroup(pytest.RaisesExc(EngineLost), flatten_subgroups=True)


@in_trio
async def test_a_lost_engine_tells_every_stream_once_and_ends_the_block() -> None:
    all_run = threading.Event()

    def breaks(number: int) -> None:
        if all_run.is_set():
            raise Misused("the engine's own fault, not a call's")

    given: dict[str, list[Event]] = {prompt: [] for prompt in "abcdef"}

    async def client(engine: Engine, prompt: str) -> None:
        async with engine.generate(asks(prompt, max_tokens=9_000)) as events:
            async for batch in events:
                given[prompt] += batch
                if all(given.values()):
                    all_run.set()

    engine = engine_of(FakeDecoder(6, context=10_000, on_call=breaks), ignore_eos=True)
    with lost():
        async with engine.running(), trio.open_nursery() as nursery:
            for prompt in given:
                nursery.start_soon(client, engine, prompt)
    for events in given.values():
        assert events[-1] == LOST[0]
        assert all(isinstance(event, Text) for event in events[:-1])


@in_trio
async def test_a_lost_engine_waits_for_the_prompt_that_it_reads_beside_streams() -> None:
    def breaks(number: int) -> None:
        if decoder.under_way:
            raise Misused("the engine's own fault, not a call's")

    decoder = FakeDecoder(context=10_000, on_call=breaks)
    engine = engine_of(decoder, ignore_eos=True)
    with lost():
        async with engine.running(), engine.generate(asks("a", max_tokens=9_000)) as events:
            await anext(events)
            assert await told(engine, asks("b")) == LOST
    assert decoder.under_way is not None
    assert decoder.under_way.done


@on_clock
async def test_a_call_that_takes_too_long_loses_the_engine(clock: MockClock) -> None:
    async def last_client() -> None:
        await collect(engine, "b", given)
        held.let_go()  # so that the thread, which is waited for, comes to its end

    held = Held()
    engine = engine_of(FakeDecoder(slots=1, on_call=held), limits=LIMITS)
    given: dict[str, list[Event]] = {}
    with lost():
        async with engine.running(), trio.open_nursery() as nursery:
            nursery.start_soon(collect, engine, "a", given)
            await held.begun.wait()
            await wait_all_tasks_blocked()  # the watch sleeps until it asks again
            clock.jump(LIMITS.call_seconds / 10)
            await wait_all_tasks_blocked()
            nursery.start_soon(last_client)
            clock.jump(LIMITS.call_seconds - 1)
            await wait_all_tasks_blocked()
            assert engine.condition is Condition.READY
            assert given == {}
            clock.jump(1)
            await trio.sleep_forever()
    assert engine.condition is Condition.LOST
    assert given == {"a": LOST, "b": LOST}


@on_clock
async def test_a_process_that_was_stopped_in_a_call_keeps_its_engine(clock: MockClock) -> None:
    """As by Ctrl-Z: the event loop, too, sees the time only when it is long over."""
    held = Held()
    engine = engine_of(FakeDecoder(on_call=held), limits=LIMITS)
    given: dict[str, list[Event]] = {}
    async with engine.running(), trio.open_nursery() as nursery:
        nursery.start_soon(collect, engine, "a", given)
        await held.begun.wait()
        await wait_all_tasks_blocked()
        clock.jump(LIMITS.call_seconds / 10)  # it asks
        await wait_all_tasks_blocked()
        clock.jump(LIMITS.call_seconds * 3)
        await wait_all_tasks_blocked()
        assert engine.condition is Condition.READY
        held.let_go()
        await engine.sign_of_life()


@on_clock
async def test_long_calls_that_end_are_no_loss(clock: MockClock) -> None:
    calls = passing(clock, LIMITS.call_seconds - 1)
    engine = engine_of(FakeDecoder(on_call=calls), ignore_eos=True, limits=LIMITS)
    async with engine.running():
        assert await told(engine, asks("a", 9)) == expected("a", 9, frozenset())


@on_clock
async def test_an_idle_engine_is_no_loss(clock: MockClock) -> None:
    engine = engine_of(FakeDecoder())
    async with engine.running():
        for _ in range(5):
            await wait_all_tasks_blocked()
            await engine.sign_of_life()  # and the engine's own question before it was answered
            clock.jump(LIMITS.call_seconds)
        assert engine.condition is Condition.READY


@on_clock
async def test_there_is_no_sign_of_life_during_a_call(clock: MockClock) -> None:
    held = Held()
    engine = engine_of(FakeDecoder(on_call=held))
    async with engine.running(), engine.generate(asks("a")):
        await engine.sign_of_life()
        await held.begun.wait()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.sign_of_life)
                await wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
        held.let_go()
        await engine.sign_of_life()


@on_clock
async def test_who_comes_after_the_loss_is_told_too(clock: MockClock) -> None:
    async def late(engine: Engine) -> None:
        """Holds the block, so that there is time to come."""
        async with engine.generate(asks("a")) as events:
            assert await heard(events) == LOST
            assert await told(engine, asks("b")) == LOST
            came.append("b")

    def breaks(number: int) -> None:
        raise Misused("the engine's own fault, not a call's")

    came: list[str] = []
    engine = engine_of(FakeDecoder(on_call=breaks))
    with lost():
        async with engine.running(), trio.open_nursery() as nursery:
            nursery.start_soon(late, engine)
            await trio.sleep_forever()
    assert came == ["b"]


@on_clock
async def test_a_client_that_takes_nothing_delays_the_end_by_a_moment(clock: MockClock) -> None:
    def breaks(number: int) -> None:
        raise Misused("the engine's own fault, not a call's")

    clock.rate = 1000
    engine = engine_of(FakeDecoder(on_call=breaks))
    with lost():
        async with engine.running(), engine.generate(asks("a")):
            await trio.sleep_forever()
    assert trio.current_time() >= 2
