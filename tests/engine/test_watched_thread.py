"""The engine's thread from its start to its end: warm before the first call, stopped during one."""

import threading

import pytest
import trio

from server.engine.condition import Condition
from server.engine.core import EngineCore
from server.engine.pacer import Pacer
from server.engine.watched_thread import EngineLost, WatchedThread
from server.errors import StartError
from tests.engine.clients import asks, engine_of, in_trio, told
from tests.engine.fake_decoder import FakeDecoder
from tests.engine.play import NO_REUSE, Visitor, sequence_of


class Warming(FakeDecoder):
    """Notes when and where it is warmed up; fails if told to."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.threads: list[str] = []
        self._error = error

    def warm_up(self) -> None:
        self.threads.append(threading.current_thread().name)
        if self._error:
            raise self._error


@in_trio
async def test_the_model_is_warm_before_the_first_call_in_the_thread_of_all_calls() -> None:
    decoder = Warming()
    decoder.on_call = lambda number: decoder.threads.append(threading.current_thread().name)
    engine = engine_of(decoder)
    async with engine.running():
        assert decoder.threads == ["engine"]
        assert engine.condition is Condition.READY
        await told(engine, asks("ab", max_tokens=2))
    assert set(decoder.threads) == {"engine"}


@in_trio
async def test_a_model_that_cannot_be_warmed_up_ends_the_start() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with engine_of(Warming(StartError("no graph"))).running():
            pass
    assert caught.group_contains(StartError, match="no graph")


@in_trio
async def test_what_came_before_is_not_run_on_a_model_that_cannot_be_warmed_up() -> None:
    decoder = Warming(StartError("no graph"))
    thread = WatchedThread(longest_call=10)
    core = EngineCore(decoder, lambda messages: None, Pacer(2), NO_REUSE)
    thread.submit(sequence_of(Visitor(0, (1, 2), max_tokens=3)))
    with pytest.raises(ExceptionGroup):
        async with thread.running(core, decoder, trio.lowlevel.checkpoint):
            pass
    assert decoder.calls == []


@in_trio
async def test_a_warm_up_that_breaks_is_a_lost_engine() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with engine_of(Warming(RuntimeError("broken"))).running():
            pass
    assert caught.group_contains(EngineLost)


@in_trio
async def test_stopping_interrupts_the_call_under_way() -> None:
    calling = trio.Event()
    token = trio.lowlevel.current_trio_token()
    interrupted: list[bool] = []

    def waits(number: int) -> None:
        """A call that only an interruption ends."""
        token.run_sync_soon(calling.set)
        interrupted.append(decoder.interrupted.wait(timeout=10))

    decoder = FakeDecoder(on_call=waits)
    engine = engine_of(decoder)
    async with engine.running(), engine.generate(asks("a")):
        await calling.wait()
    assert interrupted == [True]
    assert "engine" not in {thread.name for thread in threading.enumerate()}


@in_trio
async def test_an_engine_without_work_stops_too() -> None:
    async with engine_of(FakeDecoder()).running():
        pass
    assert "engine" not in {thread.name for thread in threading.enumerate()}
