"""The engine as the network has it: a real thread, a real event loop, a fake model."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import wraps

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from server.config import EngineConfig, SamplingParameters
from server.engine.engine import ENGINE_LOST, Engine, EngineLost
from server.engine.events import Event, Failed, Finished, FinishReason, Text
from server.engine.request import GenerationRequest
from server.errors import ClientError
from tests.engine.fake_decoder import FakeDecoder, Misused, greedy_tokens
from tests.engine.play import EOS, text_of

CONTEXT = 128


@dataclass
class FakeTokenizer:
    """A token for each letter, a to z and then some. `on_encode` may wait or act."""

    on_encode: Callable[[], None] = lambda: None
    longest_token_bytes: int = 3
    encoded: list[str] = field(default_factory=list)

    def encode(self, text: str) -> list[int]:
        self.encoded.append(text)
        self.on_encode()
        return [ord(letter) - ord("a") for letter in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return text_of(tokens)


def in_trio(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Runs an async test; one that hangs fails."""

    @wraps(test)
    def run() -> None:
        async def main() -> None:
            with trio.fail_after(20):
                await test()

        trio.run(main)

    return run


def engine_of(
    decoder: FakeDecoder, tokenizer: FakeTokenizer | None = None, *, ignore_eos: bool = False
) -> Engine:
    config = EngineConfig(decoder.slots, decoder.context, ignore_eos=ignore_eos)
    return Engine(decoder, tokenizer or FakeTokenizer(), config, EOS)


def asks(prompt: str, max_tokens: int = 1000) -> GenerationRequest:
    return GenerationRequest("id", prompt, "raw_prompt", max_tokens, SamplingParameters())


def expected(prompt: str, count: int, eos: frozenset[int] = EOS) -> list[Event]:
    """What the client of a greedy request is told."""
    tokens = greedy_tokens(tuple(ord(letter) - ord("a") for letter in prompt), count, eos)
    stopped = tokens[-1] in eos
    texts = [Text(text_of([token])) for token in (tokens[:-1] if stopped else tokens)]
    reason = FinishReason.STOP if stopped else FinishReason.LENGTH
    return [*texts, Finished(reason, len(prompt), len(tokens))]


async def told(engine: Engine, request: GenerationRequest) -> list[Event]:
    async with engine.generate(request) as events:
        return [event async for event in events]


@in_trio
async def test_many_at_once_get_what_each_gets_alone() -> None:
    decoder = FakeDecoder(slots=4, context=CONTEXT)
    prompts = ["abcdefghijklmnopqrstuvwxyz"[start : start + 1 + start % 9] for start in range(26)]
    given: dict[str, list[Event]] = {}

    async def client(engine: Engine, prompt: str) -> None:
        given[prompt] = await told(engine, asks(prompt, max_tokens=12))

    engine = engine_of(decoder)
    async with engine.running(), trio.open_nursery() as nursery:
        for prompt in prompts:
            nursery.start_soon(client, engine, prompt)
    assert given == {prompt: expected(prompt, 12) for prompt in prompts}
    assert {len(call.histories) for call in decoder.calls} == {1, 2, 3, 4}


@in_trio
async def test_leaving_the_block_frees_the_slot() -> None:
    decoder = FakeDecoder(slots=1, context=10_000)
    engine = engine_of(decoder, ignore_eos=True)
    async with engine.running():
        async with engine.generate(asks("ab", max_tokens=9_000)) as events:
            assert isinstance(await anext(events), Text)
        assert await told(engine, asks("b", max_tokens=3)) == expected("b", 3, frozenset())
    assert len(decoder.calls[-1].histories[0]) < 10


@in_trio
async def test_a_cancelled_scope_frees_the_slot() -> None:
    engine = engine_of(FakeDecoder(slots=1, context=10_000), ignore_eos=True)
    async with engine.running():
        with trio.CancelScope() as scope:
            async with engine.generate(asks("ab", max_tokens=9_000)) as events:
                async for _ in events:
                    scope.cancel()
        assert scope.cancelled_caught
        assert await told(engine, asks("b", max_tokens=3)) == expected("b", 3, frozenset())


@in_trio
async def test_a_prompt_of_no_tokens_is_the_clients_error() -> None:
    engine = engine_of(FakeDecoder())
    async with engine.running():
        with pytest.raises(ClientError, match="raw_prompt") as raised:
            await told(engine, asks(""))
    assert raised.value.status == 400


@in_trio
async def test_a_prompt_may_leave_room_for_one_token_and_no_less() -> None:
    engine = engine_of(FakeDecoder(context=16))
    async with engine.running():
        assert await told(engine, asks(15 * "a")) == expected(15 * "a", 1)
        with pytest.raises(ClientError, match=r"raw_prompt: 16 tokens .* 16 .* 15$") as raised:
            await told(engine, asks(16 * "a"))
    assert raised.value.status == 400


@in_trio
async def test_more_bytes_than_the_context_can_hold_are_not_even_encoded() -> None:
    tokenizer = FakeTokenizer(longest_token_bytes=3)
    engine = engine_of(FakeDecoder(context=16), tokenizer)
    async with engine.running():
        with pytest.raises(ClientError, match=r"raw_prompt: 49 bytes .* 16 tokens") as raised:
            await told(engine, asks(23 * "é" + "abc"))
        assert raised.value.status == 400
        assert tokenizer.encoded == []
        with pytest.raises(ClientError, match="48 tokens"):
            await told(engine, asks(48 * "a"))
    assert tokenizer.encoded == [48 * "a"]


@in_trio
async def test_one_prompt_is_encoded_at_a_time_and_off_the_event_loop() -> None:
    goes_on = threading.Event()
    in_time: list[bool] = []
    tokenizer = FakeTokenizer(on_encode=lambda: in_time.append(goes_on.wait(timeout=10)))
    engine = engine_of(FakeDecoder(), tokenizer)
    async with engine.running(), trio.open_nursery() as nursery:
        for prompt in "abc":
            nursery.start_soon(told, engine, asks(prompt, max_tokens=1))
        while not tokenizer.encoded:  # noqa: ASYNC110  # a thread's doing, which no trio event tells
            await wait_all_tasks_blocked()
        assert len(tokenizer.encoded) == 1
        goes_on.set()
    assert in_time == [True] * 3


@in_trio
async def test_a_client_that_leaves_while_its_prompt_is_encoded_never_runs() -> None:
    decoder = FakeDecoder()
    goes_on = threading.Event()
    tokenizer = FakeTokenizer(on_encode=lambda: goes_on.wait(timeout=10) and None)
    engine = engine_of(decoder, tokenizer)
    async with engine.running():
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(told, engine, asks("ab"))
                await wait_all_tasks_blocked()
                scope.cancel()
        goes_on.set()
        await told(engine, asks("b", max_tokens=1))
    assert [call.histories for call in decoder.calls] == [((1,),)]


@in_trio
async def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    engine = engine_of(FakeDecoder(slots=2, context=CONTEXT), ignore_eos=True)
    async with engine.running(), engine.generate(asks("a", max_tokens=100)) as slow:
        for prompt in "bcd":
            assert await told(engine, asks(prompt, 50)) == expected(prompt, 50, frozenset())
        assert [event async for event in slow] == expected("a", 100, frozenset())


@in_trio
async def test_max_tokens_is_bounded_by_the_context() -> None:
    engine = engine_of(FakeDecoder(context=20), ignore_eos=True)
    async with engine.running():
        finished = (await told(engine, asks("abcde", max_tokens=2**31 - 1)))[-1]
    assert finished == Finished(FinishReason.LENGTH, prompt_tokens=5, generated_tokens=15)


@in_trio
async def test_ignoring_the_end_of_text_goes_on_to_the_limit() -> None:
    assert len(expected("ab", 50)) < 50
    engine = engine_of(FakeDecoder(), ignore_eos=True)
    async with engine.running():
        assert await told(engine, asks("ab", 50)) == expected("ab", 50, frozenset())


@in_trio
async def test_a_lost_engine_tells_every_stream_once_and_ends_the_block() -> None:
    def breaks(number: int) -> None:
        if number == 9:
            raise Misused("no call that failed, but the engine's own fault")

    given: list[list[Event]] = []

    async def client(engine: Engine, prompt: str) -> None:
        with trio.CancelScope(shield=True):
            given.append(await told(engine, asks(prompt)))

    engine = engine_of(FakeDecoder(on_call=breaks), ignore_eos=True)
    with pytest.RaisesGroup(EngineLost):
        async with engine.running(), trio.open_nursery() as nursery:
            for prompt in "abcdef":
                nursery.start_soon(client, engine, prompt)
    assert len(given) == 6
    for events in given:
        assert events[-1] == ENGINE_LOST
        assert all(isinstance(event, Text) for event in events[:-1])


@in_trio
async def test_stopping_interrupts_the_call_under_way() -> None:
    calling = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def waits(number: int) -> None:
        """A call that only an interruption ends."""
        token.run_sync_soon(calling.set)
        assert decoder.interrupted.wait(timeout=10)

    decoder = FakeDecoder(on_call=waits)
    engine = engine_of(decoder)
    async with engine.running(), engine.generate(asks("a")):
        await calling.wait()
    assert len(decoder.calls) == 1
    assert threading.active_count() >= 1
    assert "engine" not in {thread.name for thread in threading.enumerate()}


@in_trio
async def test_an_engine_without_work_stops_too() -> None:
    async with engine_of(FakeDecoder()).running():
        pass
    assert "engine" not in {thread.name for thread in threading.enumerate()}


@in_trio
async def test_a_stream_ends_after_its_terminal_event() -> None:
    engine = engine_of(FakeDecoder())
    async with engine.running(), engine.generate(asks("a", max_tokens=1)) as events:
        await anext(events)
        assert isinstance(await anext(events), Finished)
        with pytest.raises(StopAsyncIteration):
            await anext(events)
