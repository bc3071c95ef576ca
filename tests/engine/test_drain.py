"""An engine that takes nothing new and lets what it has come to an end; on the virtual clock."""

import threading

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from server.config import EngineConfig, EngineLimits
from server.engine.condition import Condition
from server.engine.engine import FINAL_ERRORS, Engine
from server.engine.events import Event
from tests.engine.clients import (
    FakeTokenizer,
    Held,
    asks,
    collect,
    engine_of,
    expected,
    on_clock,
    told,
)
from tests.engine.fake_decoder import FakeDecoder

STOPPING = [FINAL_ERRORS[Condition.DRAINING]]
LIMITS = EngineLimits(
    buffered_seconds=1e6, progress_seconds=1e6, call_seconds=1e6, drain_seconds=20
)
NO_EOS: frozenset[int] = frozenset()


@on_clock
async def test_what_runs_and_what_waits_comes_to_its_end_and_nothing_new_begins(
    clock: MockClock,
) -> None:
    held = Held()
    decoder = FakeDecoder(slots=1, on_call=held)
    engine = engine_of(decoder, ignore_eos=True, limits=LIMITS)
    given: dict[str, list[Event]] = {}
    async with engine.running(), trio.open_nursery() as nursery:
        for prompt in "ab":
            nursery.start_soon(collect, engine, prompt, given)
            await wait_all_tasks_blocked()
        await held.begun.wait()
        nursery.start_soon(engine.drain)
        await wait_all_tasks_blocked()
        assert engine.condition is Condition.DRAINING
        assert await told(engine, asks("")) == STOPPING
        clock.jump(LIMITS.drain_seconds - 1)
        held.let_go()
    assert given == {prompt: expected(prompt, 5, NO_EOS) for prompt in "ab"}


@on_clock
async def test_after_its_time_the_rest_is_told(clock: MockClock) -> None:
    held = Held()
    decoder = FakeDecoder(slots=1, on_call=held)
    engine = engine_of(decoder, ignore_eos=True, limits=LIMITS)
    given: dict[str, list[Event]] = {}
    async with engine.running(), trio.open_nursery() as nursery:
        for prompt in "ab":
            nursery.start_soon(collect, engine, prompt, given)
            await wait_all_tasks_blocked()
        await held.begun.wait()
        async with trio.open_nursery() as draining:
            draining.start_soon(engine.drain)
            await wait_all_tasks_blocked()
            clock.jump(LIMITS.drain_seconds)
        assert engine.requests == 0
        held.let_go()
    assert given == {"a": STOPPING, "b": STOPPING}


@on_clock
async def test_a_client_that_takes_nothing_holds_it_up_for_a_moment_only(clock: MockClock) -> None:
    engine = engine_of(FakeDecoder(), limits=LIMITS)
    async with engine.running(), engine.generate(asks("a")):
        clock.rate = 1000
        start = trio.current_time()
        await engine.drain()
        assert trio.current_time() - start >= LIMITS.drain_seconds
        clock.rate = 0


@on_clock
async def test_without_requests_it_takes_no_time(clock: MockClock) -> None:
    engine = engine_of(FakeDecoder(), limits=LIMITS)
    async with engine.running():
        await told(engine, asks("a", 3))
        await engine.drain()


@on_clock
async def test_it_takes_nothing_new_either_where_the_model_is_loaded_after_that(
    clock: MockClock,
) -> None:
    may_load, loaded = threading.Event(), trio.Event()

    def load() -> tuple[FakeDecoder, FakeTokenizer]:
        may_load.wait()
        return FakeDecoder(), FakeTokenizer()

    async def live(engine: Engine) -> None:
        async with engine.running():
            loaded.set()
            await trio.sleep_forever()

    engine = Engine(load, EngineConfig(4, 128), NO_EOS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(live, engine)
        await wait_all_tasks_blocked()
        await engine.drain()
        may_load.set()
        await loaded.wait()
        assert engine.condition is Condition.DRAINING
        assert await told(engine, asks("a")) == STOPPING
        nursery.cancel_scope.cancel()
