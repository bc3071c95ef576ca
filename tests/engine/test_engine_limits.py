"""More requests than there are slots, and requests that wait too long; on the virtual clock."""

import threading
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from server.config import EngineLimits
from server.engine.events import Event, Text
from server.engine.facts import Fact, RequestEnded, StepTaken
from server.engine.stream import NO_PROGRESS, NO_SLOT, OVERFLOW
from server.errors import ClientError
from tests.engine.clients import (
    FakeTokenizer,
    Held,
    asks,
    collect,
    engine_of,
    expected,
    heard,
    on_clock,
    passing,
    told,
)
from tests.engine.fake_decoder import FakeDecoder

LIMITS = EngineLimits(buffered_requests=3)
NO_EOS: frozenset[int] = frozenset()


@on_clock
async def test_what_finds_no_room_is_told_at_once_and_not_even_encoded(clock: MockClock) -> None:
    held = Held()
    tokenizer = FakeTokenizer()
    decoder = FakeDecoder(slots=2, on_call=held)
    engine = engine_of(decoder, tokenizer, ignore_eos=True, limits=LIMITS)
    given: dict[str, list[Event]] = {}
    async with engine.running(), trio.open_nursery() as nursery:
        for prompt in "abcde":
            nursery.start_soon(collect, engine, prompt, given)
            await wait_all_tasks_blocked()
        await held.begun.wait()
        assert [await told(engine, asks(prompt)) for prompt in "fgh"] == [[OVERFLOW]] * 3
        held.let_go()
    assert tokenizer.encoded == list("abcde")
    assert given == {prompt: expected(prompt, 5, NO_EOS) for prompt in "abcde"}


@on_clock
async def test_room_is_counted_before_prompts_are_tokens(clock: MockClock) -> None:
    held = Held()
    tokenizer = FakeTokenizer(on_encode=held)
    engine = engine_of(FakeDecoder(slots=1), tokenizer, limits=EngineLimits(buffered_requests=1))
    given: dict[str, list[Event]] = {}
    async with engine.running(), trio.open_nursery() as nursery:
        for prompt in "ab":
            nursery.start_soon(collect, engine, prompt, given)
        await held.begun.wait()
        await wait_all_tasks_blocked()
        assert await told(engine, asks("")) == [OVERFLOW]
        held.let_go()
    assert sorted(given) == ["a", "b"]


@pytest.mark.parametrize("leaves", [False, True])
def test_who_ends_makes_room(leaves: bool) -> None:
    @on_clock
    async def test(clock: MockClock) -> None:
        held = Held()
        decoder = FakeDecoder(slots=1, on_call=held)
        engine = engine_of(decoder, ignore_eos=True, limits=EngineLimits(buffered_requests=0))
        async with engine.running():
            async with engine.generate(asks("a", max_tokens=3)) as events:
                await held.begun.wait()
                assert await told(engine, asks("b")) == [OVERFLOW]
                if not leaves:
                    held.let_go()
                    assert await heard(events) == expected("a", 3, NO_EOS)
            held.let_go()
            assert await told(engine, asks("b", max_tokens=3)) == expected("b", 3, NO_EOS)

    test()


@on_clock
async def test_a_prompt_that_is_refused_makes_room(clock: MockClock) -> None:
    engine = engine_of(FakeDecoder(slots=1), limits=EngineLimits(buffered_requests=0))
    async with engine.running():
        for _ in range(3):
            with pytest.raises(ClientError):
                await told(engine, asks(""))
        assert await told(engine, asks("a")) == expected("a", 1000)


@on_clock
async def test_waiting_for_a_slot_has_its_time(clock: MockClock) -> None:
    held = Held()
    decoder = FakeDecoder(slots=1, on_call=held)
    engine = engine_of(decoder, ignore_eos=True)
    given: dict[str, list[Event]] = {}
    async with engine.running(), trio.open_nursery() as nursery:
        nursery.start_soon(collect, engine, "a", given)
        await held.begun.wait()
        nursery.start_soon(collect, engine, "b", given)
        await wait_all_tasks_blocked()
        clock.jump(LIMITS.buffered_seconds - 0.01)
        await wait_all_tasks_blocked()
        assert given == {}
        clock.jump(0.01)
        await wait_all_tasks_blocked()
        assert given == {"b": [NO_SLOT]}
        held.let_go()
    assert given["a"] == expected("a", 5, NO_EOS)
    assert {history[0] for call in decoder.calls for history in call.histories} == {0}


@on_clock
async def test_no_time_counts_in_which_the_process_was_stopped(clock: MockClock) -> None:
    """As by Ctrl-Z: the event loop sees the time only when it is long over, with and without a
    slot."""
    held = Held()
    engine = engine_of(FakeDecoder(slots=1, on_call=held), ignore_eos=True)
    given: dict[str, list[Event]] = {}
    async with engine.running(), trio.open_nursery() as nursery:
        nursery.start_soon(collect, engine, "a", given)
        await held.begun.wait()
        nursery.start_soon(collect, engine, "b", given)
        await wait_all_tasks_blocked()
        clock.jump(100 * (LIMITS.buffered_seconds + LIMITS.progress_seconds))
        await wait_all_tasks_blocked()
        held.let_go()
    assert given == {prompt: expected(prompt, 5, NO_EOS) for prompt in "ab"}


@on_clock
async def test_a_slot_in_time_is_time_enough(clock: MockClock) -> None:
    held = Held()
    engine = engine_of(FakeDecoder(slots=1, on_call=held), ignore_eos=True)
    given: dict[str, list[Event]] = {}
    async with engine.running(), trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as first:
                first.start_soon(collect, engine, "a", given)
                await held.begun.wait()
                nursery.start_soon(collect, engine, "b", given)
                await wait_all_tasks_blocked()
                scope.cancel()
        # The call for "a" goes on, and with it the wait for what is already said to be free.
        clock.jump(LIMITS.progress_seconds + 1)
        await wait_all_tasks_blocked()
        held.let_go()
    assert given == {"b": expected("b", 5, NO_EOS)}


@on_clock
async def test_a_prompt_that_is_still_encoded_waits_no_longer_than_others(clock: MockClock) -> None:
    held = Held()
    engine = engine_of(FakeDecoder(slots=1), FakeTokenizer(on_encode=held))
    given: dict[str, list[Event]] = {}
    async with engine.running(), trio.open_nursery() as nursery:
        for prompt in "ab":
            nursery.start_soon(collect, engine, prompt, given)
            await wait_all_tasks_blocked()
        clock.jump(LIMITS.buffered_seconds)
        await wait_all_tasks_blocked()
        assert given == {"b": [NO_SLOT]}
        held.let_go()


@on_clock
async def test_a_request_without_progress_ends_and_frees_its_slot(clock: MockClock) -> None:
    held = Held()
    decoder = FakeDecoder(slots=1, on_call=held)
    engine = engine_of(decoder, ignore_eos=True)
    given: dict[str, list[Event]] = {}
    async with engine.running(), trio.open_nursery() as nursery:
        nursery.start_soon(collect, engine, "a", given)
        await held.begun.wait()
        await wait_all_tasks_blocked()
        clock.jump(LIMITS.progress_seconds - 0.01)
        await wait_all_tasks_blocked()
        assert given == {}
        clock.jump(0.01)
        await wait_all_tasks_blocked()
        assert given == {"a": [NO_PROGRESS]}
        held.let_go()
        assert await told(engine, asks("b", max_tokens=5)) == expected("b", 5, NO_EOS)
    assert len(decoder.calls) == 1 + 5


@on_clock
async def test_an_end_that_is_there_when_the_time_is_over_is_the_only_one(clock: MockClock) -> None:
    done = threading.Event()
    engine = engine_of(
        FakeDecoder(), observe=lambda fact: done.set() if isinstance(fact, StepTaken) else None
    )
    async with engine.running(), engine.generate(asks("a", max_tokens=1)) as events:
        assert done.wait(timeout=10)  # so that the event loop hears of begin and end together
        clock.rate = 1e9
        given = await heard(events)
        clock.rate = 0
    assert given == expected("a", 1)


@on_clock
async def test_every_token_is_progress(clock: MockClock) -> None:
    calls = passing(clock, LIMITS.progress_seconds - 1)
    engine = engine_of(FakeDecoder(on_call=calls), ignore_eos=True)
    async with engine.running():
        assert await told(engine, asks("a", max_tokens=9)) == expected("a", 9, NO_EOS)


@on_clock
async def test_every_piece_of_a_prompt_is_progress_and_waiting_for_ones_turn_is_free(
    clock: MockClock,
) -> None:
    """A piece of a prompt, a token of those that decode, and the next piece are three calls."""
    calls = passing(clock, LIMITS.progress_seconds / 3 - 1)
    decoder = FakeDecoder(slots=3, context=4096, on_call=calls)
    engine = engine_of(decoder, ignore_eos=True)
    given: dict[str, list[Event]] = {}
    prompts = [letter * 2000 for letter in "abc"]
    async with engine.running(), trio.open_nursery() as nursery:
        for prompt in prompts:
            nursery.start_soon(collect, engine, prompt, given)
    assert given == {prompt: expected(prompt, 5, NO_EOS) for prompt in prompts}


@on_clock
async def test_a_stream_says_what_there_was_before_it_says_that_it_timed_out(
    clock: MockClock,
) -> None:
    third_call, goes_on = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def stops(number: int) -> None:
        if number == 2:
            token.run_sync_soon(third_call.set)
            assert goes_on.wait(timeout=10)

    engine = engine_of(FakeDecoder(on_call=stops), ignore_eos=True)
    async with engine.running(), engine.generate(asks("a")) as events:
        await third_call.wait()
        clock.jump(LIMITS.progress_seconds)
        *texts, last = await heard(events)
        goes_on.set()
    assert last == NO_PROGRESS
    assert len(texts) == 2
    assert all(isinstance(text, Text) for text in texts)


@pytest.mark.parametrize("again", range(9))
@pytest.mark.parametrize("holds_a_slot", [True, False])
def test_a_client_may_leave_just_when_its_time_is_over(holds_a_slot: bool, again: int) -> None:
    """Which of the two is seen first is left to chance."""

    @on_clock
    async def test(clock: MockClock) -> None:
        held = Held()
        engine = engine_of(FakeDecoder(slots=1, on_call=held))
        limits = LIMITS.progress_seconds if holds_a_slot else LIMITS.buffered_seconds
        async with engine.running(), trio.open_nursery() as nursery:
            if not holds_a_slot:
                nursery.start_soon(told, engine, asks("a"))
            with trio.CancelScope() as scope:
                async with engine.generate(asks("b")):
                    await held.begun.wait()
                    await wait_all_tasks_blocked()
                    scope.cancel()
                    clock.jump(limits)
                    await trio.sleep_forever()
            held.let_go()
            assert engine.requests == (0 if holds_a_slot else 1)

    test()


@pytest.mark.parametrize("again", range(20))
def test_a_prompt_may_be_refused_just_when_its_time_is_over(again: int) -> None:
    """Which of the two is seen first is left to chance, but client and observer see the same."""

    @on_clock
    async def test(clock: MockClock) -> None:
        held, facts, tokenizer = Held(), list[Fact](), FakeTokenizer()
        engine = engine_of(FakeDecoder(slots=1, on_call=held), tokenizer, observe=facts.append)
        token = trio.lowlevel.current_trio_token()
        async with engine.running(), trio.open_nursery() as nursery:
            nursery.start_soon(told, engine, asks("a", max_tokens=1))
            await held.begun.wait()
            time_is_over = partial(clock.jump, LIMITS.buffered_seconds)
            tokenizer.on_encode = partial(token.run_sync_soon, time_is_over)
            seen: int | list[Event]
            try:
                seen = await told(engine, asks(""))
            except ClientError as error:
                seen = error.status
            [ended] = [fact.end for fact in facts if isinstance(fact, RequestEnded)]
            assert (seen, ended) in [(400, 400), ([NO_SLOT], NO_SLOT.code)]
            held.let_go()

    test()
