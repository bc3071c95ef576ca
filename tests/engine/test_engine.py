"""The engine as the network has it: a real thread, a real event loop, a fake model."""

import threading
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from server.config import EngineConfig
from server.engine.condition import Condition
from server.engine.engine import Engine
from server.engine.events import Event, Finished, FinishReason
from server.errors import ClientError, StartError
from tests.engine.clients import FakeTokenizer, asks, engine_of, expected, heard, in_trio, told
from tests.engine.fake_decoder import FakeDecoder
from tests.engine.play import EOS

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@in_trio
async def test_many_at_once_get_what_each_gets_alone() -> None:
    prompts = [LETTERS[start : start + 1 + start % 9] for start in range(26)]
    given: dict[str, list[Event]] = {}
    entered: list[str] = []
    all_there = threading.Event()

    async def client(engine: Engine, prompt: str) -> None:
        async with engine.generate(asks(prompt, max_tokens=24)) as events:
            entered.append(prompt)
            if len(entered) == len(prompts):
                all_there.set()
            given[prompt] = await heard(events)

    decoder = FakeDecoder(slots=4, on_call=lambda number: all_there.wait(timeout=10))
    engine = engine_of(decoder)
    async with engine.running(), trio.open_nursery() as nursery:
        for prompt in prompts:
            nursery.start_soon(client, engine, prompt)
    assert given == {prompt: expected(prompt, 24) for prompt in prompts}
    assert {len(call.histories) for call in decoder.calls} == {1, 2, 3, 4}


@in_trio
async def test_with_drafts_each_token_is_still_an_event_of_its_own() -> None:
    """The model repeats nothing, so that drafts are mostly wrong; few are right by chance."""
    decoder = FakeDecoder(slots=1)
    engine = engine_of(decoder, ignore_eos=True, speculate=3)
    async with engine.running():
        events = await told(engine, asks("abab", max_tokens=100))
    assert events == expected("abab", 100, eos=frozenset())
    assert "verify" in {call.kind for call in decoder.calls}


@pytest.mark.parametrize("by_scope", [False, True])
def test_leaving_the_block_frees_the_slot_after_the_call_under_way(by_scope: bool) -> None:
    fourth_call, left = trio.Event(), threading.Event()

    @in_trio
    async def leave_during_the_fourth_call() -> None:
        token = trio.lowlevel.current_trio_token()
        decoder.on_call = partial(waits, token)
        async with engine.running():
            with trio.CancelScope() as scope:
                async with engine.generate(asks("ab", max_tokens=100)) as events:
                    await fourth_call.wait()
                    if by_scope:
                        scope.cancel()
                        await anext(events)
            assert scope.cancelled_caught == by_scope
            left.set()
            assert await told(engine, asks("b", max_tokens=3)) == expected("b", 3, frozenset())

    def waits(token: trio.lowlevel.TrioToken, number: int) -> None:
        if number == 3:
            token.run_sync_soon(fourth_call.set)
            left.wait(timeout=10)

    decoder = FakeDecoder(slots=1)
    engine = engine_of(decoder, ignore_eos=True)
    leave_during_the_fourth_call()
    assert [call.histories[0][0] for call in decoder.calls] == [0, 0, 0, 0, 1, 1, 1]


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
async def test_requests_that_wait_for_a_model_that_cannot_be_loaded_wait_to_be_cancelled() -> None:
    fails = threading.Event()
    ends: list[str] = []

    def load() -> tuple[FakeDecoder, FakeTokenizer]:
        assert fails.wait(timeout=10)
        raise StartError("no model")

    async def run() -> None:
        with pytest.RaisesGroup(StartError, flatten_subgroups=True):
            async with engine.running():
                await trio.sleep_forever()
        await trio.sleep(0.05)  # time for a thread to fail
        assert ends == []
        nursery.cancel_scope.cancel()

    async def client(prompt: str) -> None:
        try:
            await told(engine, asks(prompt))
        except BaseException as end:
            ends.append(type(end).__name__)
            raise

    engine = Engine(load, EngineConfig(2, 128), EOS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        for prompt in "abcd":
            nursery.start_soon(client, prompt)
        await wait_all_tasks_blocked()
        fails.set()
    assert ends == ["Cancelled"] * 4


@in_trio
async def test_one_prompt_is_encoded_at_a_time_and_off_the_event_loop() -> None:
    begun, goes_on = trio.Event(), threading.Event()

    def waits() -> None:
        trio.from_thread.run_sync(begun.set)
        assert goes_on.wait(timeout=10)

    tokenizer = FakeTokenizer(on_encode=waits)
    engine = engine_of(FakeDecoder(), tokenizer)
    async with engine.running(), trio.open_nursery() as nursery:
        for prompt in "abc":
            nursery.start_soon(told, engine, asks(prompt, max_tokens=1))
        await begun.wait()
        await wait_all_tasks_blocked()
        assert len(tokenizer.encoded) == 1
        goes_on.set()
    assert sorted(tokenizer.encoded) == ["a", "b", "c"]


@in_trio
async def test_a_client_that_leaves_while_its_prompt_is_encoded_never_runs() -> None:
    decoder = FakeDecoder()
    goes_on = threading.Event()
    tokenizer = FakeTokenizer(on_encode=lambda: goes_on.wait(timeout=10))
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
    engine = engine_of(FakeDecoder(slots=2), ignore_eos=True)
    async with engine.running(), engine.generate(asks("a", max_tokens=100)) as slow:
        for prompt in "bcd":
            assert await told(engine, asks(prompt, 50)) == expected(prompt, 50, frozenset())
        assert await heard(slow) == expected("a", 100, frozenset())


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
async def test_a_stream_ends_after_its_terminal_event() -> None:
    engine = engine_of(FakeDecoder())
    async with engine.running(), engine.generate(asks("a", max_tokens=1)) as events:
        assert isinstance((await heard(events))[-1], Finished)
        with pytest.raises(StopAsyncIteration):
            await anext(events)


@in_trio
async def test_before_the_model_is_there_requests_wait() -> None:
    goes_on = threading.Event()
    decoder = FakeDecoder(slots=2)

    def load() -> tuple[FakeDecoder, FakeTokenizer]:
        assert goes_on.wait(timeout=10)
        return decoder, FakeTokenizer()

    async def run() -> None:
        async with engine.running():
            await trio.sleep_forever()

    async def client(prompt: str) -> None:
        given[prompt] = await told(engine, asks(prompt, 3))

    given: dict[str, list[Event]] = {}
    engine = Engine(load, EngineConfig(2, 128), EOS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as clients:
            for prompt in "abcd":
                clients.start_soon(client, prompt)
                await wait_all_tasks_blocked()
            assert engine.condition.value == "the model is being loaded"
            goes_on.set()
        assert engine.condition is Condition.READY
        nursery.cancel_scope.cancel()
    assert given == {prompt: expected(prompt, 3) for prompt in "abcd"}
    begun = [call.histories[-1][0] for call in decoder.calls if call.kind != "decode"]
    assert begun == [0, 1, 2, 3]
