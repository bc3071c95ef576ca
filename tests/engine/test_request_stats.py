"""However a request ends, whoever watches is told once, with how its time was spent."""

import pytest
import trio

from server.config import EngineConfig, EngineLimits
from server.engine.condition import Condition
from server.engine.engine import Engine
from server.engine.events import FinishReason
from server.engine.facts import Activity, Fact, Occupancy, RequestEnded, SlotState
from server.errors import ClientError
from tests.engine.clients import FakeTokenizer, Held, asks, in_trio, told
from tests.engine.fake_decoder import FakeDecoder
from tests.engine.play import EOS


class Watched(Engine):
    """Keeps what it told of the ends of requests; a second passes in each call."""

    def __init__(self, decoder: FakeDecoder, limits: EngineLimits | None = None) -> None:
        config = EngineConfig(
            decoder.slots, decoder.context, ignore_eos=True, limits=limits or EngineLimits()
        )
        self.ended: list[RequestEnded] = []
        super().__init__(
            lambda: (decoder, FakeTokenizer()),
            config,
            EOS,
            self._note,
            lambda: decoder.runtime_seconds,
        )

    def _note(self, fact: Fact) -> None:
        if isinstance(fact, RequestEnded):
            self.ended.append(fact)


@in_trio
async def test_one_that_ends_by_itself() -> None:
    engine = Watched(FakeDecoder())
    async with engine.running():
        await told(engine, asks("abc", max_tokens=4))
    [ended] = engine.ended
    assert ended == RequestEnded(
        "id",
        FinishReason.LENGTH,
        prompt_tokens=3,
        generated_tokens=4,
        queue_seconds=0,
        prefill_seconds=1,
        decode_seconds=3,
    )
    assert ended.seconds == 4


@in_trio
async def test_one_whose_client_leaves() -> None:
    engine = Watched(FakeDecoder(context=1000))
    async with engine.running():
        async with engine.generate(asks("abc", max_tokens=900)) as events:
            await anext(events)
        [ended] = engine.ended
        await told(engine, asks("a", max_tokens=1))
    assert ended.end is None
    assert ended.prompt_tokens == 3
    assert 1 <= ended.generated_tokens < 900
    assert ended.prefill_seconds == 1
    assert len(engine.ended) == 2


@in_trio
async def test_those_that_are_not_taken() -> None:
    held = Held()
    engine = Watched(FakeDecoder(slots=1, on_call=held), EngineLimits(buffered_requests=0))
    async with engine.running(), trio.open_nursery() as nursery:
        nursery.start_soon(told, engine, asks("a", 1))
        await held.begun.wait()
        assert len(engine.occupancy.taken) == 1
        await told(engine, asks("b", 1))
        assert engine.ended == [RequestEnded("id", 503)]
        held.let_go()


@in_trio
async def test_one_whose_prompt_is_wrong() -> None:
    engine = Watched(FakeDecoder())
    async with engine.running():
        for prompt in ("", 5000 * "a"):
            with pytest.raises(ClientError):
                await told(engine, asks(prompt))
    assert engine.ended == 2 * [RequestEnded("id", 400)]


@in_trio
async def test_one_that_the_server_fails() -> None:
    engine = Watched(FakeDecoder(context=1000))
    async with engine.running():
        with pytest.raises(ZeroDivisionError):
            async with engine.generate(asks("abc", 900)):
                raise ZeroDivisionError
        [ended] = engine.ended
        assert ended.end == 500
        assert not engine.occupancy.taken


@in_trio
async def test_those_that_the_end_of_the_process_cuts_short() -> None:
    held = Held()
    limits = EngineLimits(buffered_requests=1, drain_seconds=0)
    engine = Watched(FakeDecoder(slots=1, on_call=held), limits)
    async with engine.running(), trio.open_nursery() as nursery:
        nursery.start_soon(told, engine, asks("abc", 9))
        await held.begun.wait()
        nursery.start_soon(told, engine, asks("b", 9))
        while engine.occupancy.waiting == 0:
            await trio.lowlevel.checkpoint()
        await engine.drain()
        await told(engine, asks("c", 9))
        held.let_go()
    assert engine.condition is Condition.DRAINING
    assert [ended.end for ended in engine.ended] == [503, 503, 503]
    assert {ended.prompt_tokens for ended in engine.ended[:2]} <= {0, 1, 3}


@in_trio
async def test_what_running_sequences_hold_is_told() -> None:
    read = Held()
    decoder = FakeDecoder(slots=2, context=10)
    engine = Watched(decoder)
    usages: list[float] = []
    decoder.on_call = lambda number: read() if number == 4 else None
    async with engine.running(), trio.open_nursery() as nursery:
        nursery.start_soon(told, engine, asks("abcd", 5))
        await read.begun.wait()
        usages.append(engine.occupancy.kv_usage)
        read.let_go()
    assert usages == [(4 + 3) / 20]
    assert engine.occupancy == Occupancy(slots=2, taken=(), waiting=0, kv_usage=0)


@in_trio
async def test_what_each_slot_does_is_told_while_a_call_hangs() -> None:
    held = Held()
    decoder = FakeDecoder(slots=2)
    engine = Watched(decoder)
    decoder.on_call = lambda number: held() if number == 3 else None
    async with engine.running(), trio.open_nursery() as nursery:
        nursery.start_soon(told, engine, asks("abcd", 5))
        await held.begun.wait()
        nursery.start_soon(told, engine, asks("b", 1))
        while len(engine.occupancy.taken) < 2 or not engine.occupancy.taken[1].prompt_tokens:
            await trio.lowlevel.checkpoint()
        assert engine.occupancy.taken == (
            SlotState("id", Activity.DECODE, 4, 4, 0, 3),
            SlotState("id", Activity.QUEUE, 1, 0, 0, 0),
        )
        held.let_go()
    assert len(engine.occupancy.taken) == 0
