"""What a request gets does not depend on who else is there, and each gets exactly one end."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.config import PrefixCacheConfig, PrefixReuse, SamplingParameters
from server.engine.core import MODEL_FAILED
from server.engine.events import Event, Finished, FinishReason, Progress, Text
from server.engine.lookup import Draft
from server.engine.plan import DecodeCall, PrefillCall
from server.engine.windowed_text import Decode
from server.errors import DeviceLost, Interrupted
from server.model.tensor_types import Logits
from tests.engine.fake_decoder import (
    CALLS_BESIDE,
    VOCABULARY,
    Call,
    FakeDecoder,
    History,
    ModelBroke,
    greedy_tokens,
)
from tests.engine.paces import SteadyPacer
from tests.engine.play import EOS, Play, Visitor, events_alone, text_of
from tests.engine.prophet import Prophet

samplings = st.just(SamplingParameters()) | st.builds(
    SamplingParameters,
    temperature=st.sampled_from([0.0, 0.7, 2.0]),
    top_k=st.sampled_from([0, 5]),
    top_p=st.sampled_from([1.0, 0.8]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    seed=st.integers(0, 9),
)


@st.composite
def visitors(draw: st.DrawFn, key: int) -> Visitor:
    arrives = draw(st.integers(0, 40))
    return Visitor(
        key=key,
        prompt=prompt(key, draw(st.integers(1, 4) | st.integers(1, 70))),
        max_tokens=draw(st.integers(1, 20)),
        sampling=draw(samplings),
        eos=draw(st.sampled_from([EOS, frozenset()])),
        arrives=arrives,
        leaves=draw(st.none() | st.integers(arrives, arrives + 20)),
        drafter=draw(st.sampled_from([None, Prophet])),
    )


crowds = st.integers(1, 9).flatmap(lambda count: st.tuples(*map(visitors, range(count))))
slot_counts = st.integers(1, 4)


def prompt(key: int, length: int) -> History:
    """Begins with the key, so that each history tells whose it is."""
    return (key, *(token % VOCABULARY for token in range(1, length)))


def keys_in(histories: tuple[History, ...]) -> set[int]:
    return {history[0] for history in histories}


@settings(max_examples=150)
@given(crowd=crowds, slots=slot_counts)
def test_a_request_gets_the_same_alone_and_in_any_mix(
    crowd: tuple[Visitor, ...], slots: int
) -> None:
    decoder = FakeDecoder(slots)
    play = Play(crowd, decoder).run()
    for each in crowd:
        told, alone = play.events[each.key], events_alone(each)
        if each.key in play.calls_when_left:
            assert told == alone[: len(told)]
        else:
            assert told == alone
    assert decoder.held == [None] * slots


@st.composite
def alike(draw: st.DrawFn, key: int) -> Visitor:
    """A visitor whose prompt has much in common with those of the others."""
    texts = [[(step * token) % VOCABULARY for token in range(1, 71)] for step in (1, 3)]
    tail = draw(st.lists(st.integers(0, 3), min_size=1, max_size=9))
    start = draw(st.sampled_from(texts))[: draw(st.integers(0, 70))]
    return replace(draw(visitors(key)), prompt=(*start, *tail))


crowds_alike = st.integers(1, 9).flatmap(lambda count: st.tuples(*map(alike, range(count))))
kinds = st.sampled_from([PrefixReuse.PROMPTS, PrefixReuse.ALL])


@settings(max_examples=150)
@given(
    crowd=crowds_alike,
    slots=slot_counts,
    reuse=kinds,
    capacity=st.sampled_from([0, 500, 10_000]),
    broken=st.frozensets(st.integers(0, 60), max_size=3),
)
def test_a_request_gets_the_same_whatever_it_begins_with(
    crowd: tuple[Visitor, ...],
    slots: int,
    reuse: PrefixReuse,
    capacity: int,
    broken: frozenset[int],
) -> None:
    """Also beside calls that fail."""
    shares_decoded = reuse is PrefixReuse.ALL
    decoder = FakeDecoder(slots, on_call=breaks_in(broken), shares_decoded=shares_decoded)
    play = Play(crowd, decoder, PrefixCacheConfig(reuse, capacity)).run()
    for each in crowd:
        told, alone = list(map(without_reuse, play.events[each.key])), events_alone(each)
        if each.key in play.calls_when_left:
            assert told == alone[: len(told)] or told == [*alone[: len(told) - 1], MODEL_FAILED]
        else:
            assert told in (alone, [*alone[: len(told) - 1], MODEL_FAILED])
        assert broken or MODEL_FAILED not in told
    assert decoder.held == [None] * slots


def without_reuse(event: Event) -> Event:
    return replace(event, reused_tokens=0) if isinstance(event, Finished) else event


def reused_by_last(crowd: list[Visitor], reuse: PrefixReuse, capacity: int = 10_000) -> int:
    """Tokens that the last visitor did not have to read, after those before it were gone."""
    crowd = [replace(each, arrives=200 * number) for number, each in enumerate(crowd)]
    decoder = FakeDecoder(shares_decoded=reuse is PrefixReuse.ALL)
    play = Play(crowd, decoder, PrefixCacheConfig(reuse, capacity)).run()
    finished = play.events[crowd[-1].key][-1]
    assert isinstance(finished, Finished)
    return finished.reused_tokens


def test_a_prompt_begins_with_what_an_ended_one_has_in_common_with_it() -> None:
    long = prompt(0, 60)
    first, same = Visitor(0, long, 5), Visitor(1, long, 5)
    assert reused_by_last([first, same], PrefixReuse.PROMPTS) == 58  # the last two are always read
    assert reused_by_last([first, same], PrefixReuse.OFF) == 0
    assert reused_by_last([first, same], PrefixReuse.PROMPTS, capacity=200) == 20
    longer = Visitor(1, (*long[:40], 31, 31, 31), 5)
    assert reused_by_last([first, longer], PrefixReuse.PROMPTS) == 40


def test_a_second_turn_reads_only_what_is_new() -> None:
    question = prompt(0, 30)
    answer = greedy_tokens(question, 12)
    turns = [
        Visitor(0, question, 12, eos=frozenset()),
        Visitor(1, (*question, *answer, 5, 6, 7), 5),
    ]
    assert reused_by_last(turns, PrefixReuse.PROMPTS) == 30
    assert reused_by_last(turns, PrefixReuse.ALL) == 41  # the answer's last token was never read


def test_of_prompts_that_come_together_one_reads_what_they_have_in_common() -> None:
    """The second one begins in the step in which the first reads its last 14 tokens."""
    decoder = FakeDecoder(slots=4)
    crowd = [Visitor(key, (*prompt(9, 60), key, key), 9, eos=frozenset()) for key in range(4)]
    Play(crowd, decoder, PrefixCacheConfig()).run()
    assert decoder.reused == 48 + 60 + 60


def test_what_a_failing_model_wrote_is_nobodys_beginning() -> None:
    decoder = FakeDecoder(slots=1, nan_rows={3: frozenset({0})})
    crowd = [Visitor(key, prompt(9, 60), 9, arrives=100 * key) for key in range(2)]
    play = Play(crowd, decoder, PrefixCacheConfig()).run()
    assert play.events[0][-1] == MODEL_FAILED
    assert decoder.reused == 0


@settings(max_examples=60)
@given(crowd=crowds, slots=slot_counts)
def test_who_left_is_in_no_later_call(crowd: tuple[Visitor, ...], slots: int) -> None:
    decoder = FakeDecoder(slots)
    for key, calls in Play(crowd, decoder).run().calls_when_left.items():
        assert all(key not in keys_in(call.histories) for call in decoder.calls[calls:])


@settings(max_examples=60)
@given(crowd=crowds, slots=slot_counts, broken=st.frozensets(st.integers(0, 60), max_size=5))
def test_a_call_that_fails_ends_only_what_was_in_it(
    crowd: tuple[Visitor, ...], slots: int, broken: frozenset[int]
) -> None:
    decoder = FakeDecoder(slots, on_call=breaks_in(broken))
    play = Play(crowd, decoder).run()
    failed = {
        key
        for number, call in enumerate(decoder.calls)
        if number in broken
        for key in keys_in(call.histories)
    }
    assert_only_these_failed(play, crowd, failed)
    assert decoder.held == [None] * slots


@settings(max_examples=60)
@given(
    crowd=crowds,
    slots=slot_counts,
    nan_rows=st.dictionaries(st.integers(0, 60), st.frozensets(st.just(0)), max_size=5),
)
def test_logits_that_are_no_numbers_end_only_their_row(
    crowd: tuple[Visitor, ...], slots: int, nan_rows: dict[int, frozenset[int]]
) -> None:
    """Logits of a prompt that is not yet read whole concern nobody."""
    decoder = FakeDecoder(slots, nan_rows=nan_rows)
    play = Play(crowd, decoder).run()
    lengths = {each.key: len(each.prompt) for each in crowd}
    failed = set()
    for number, call in enumerate(decoder.calls):
        for row in nan_rows.get(number, ()):
            (key,) = keys_in(call.histories[row : row + 1])
            failed |= {key} if len(call.histories[row]) >= lengths[key] else set()
    assert_only_these_failed(play, crowd, failed)


@settings(max_examples=60)
@given(crowd=crowds, slots=slot_counts, texts=st.dictionaries(st.integers(0, 8), st.integers(1, 9)))
def test_a_token_that_gives_no_text_ends_only_its_request(
    crowd: tuple[Visitor, ...], slots: int, texts: dict[int, int]
) -> None:
    decoder = FakeDecoder(slots)
    broken = [
        replace(each, decode=breaks_after(texts[each.key])) if each.key in texts else each
        for each in crowd
    ]
    play = Play(broken, decoder).run()
    failed = {key for key, told in play.events.items() if MODEL_FAILED in told}
    assert failed <= texts.keys()
    for each in crowd:
        if each.key in texts and each.key not in play.calls_when_left:
            assert each.key in failed or len(play.events[each.key]) <= texts[each.key] + 1
    assert_only_these_failed(play, crowd, failed)
    assert decoder.held == [None] * slots


def assert_only_these_failed(play: Play, crowd: tuple[Visitor, ...], failed: set[int]) -> None:
    for each in crowd:
        told, alone = play.events[each.key], events_alone(each)
        if each.key in play.calls_when_left:
            continue
        if each.key in failed:
            assert told == [*alone[: len(told) - 1], MODEL_FAILED]
        else:
            assert told == alone


def breaks_after(texts: int) -> Decode:
    """The text of so many tokens, and then a fault."""
    calls = itertools.count()

    def decode(tokens: Sequence[int]) -> str:
        # Each token's text is made twice: with what came before it, and alone.
        if next(calls) >= 2 * texts:
            raise ModelBroke("no text")
        return text_of(tokens)

    return decode


def breaks_in(calls: frozenset[int]) -> Callable[[int], None]:
    def on_call(number: int) -> None:
        if number in calls:
            raise ModelBroke(number)

    return on_call


def test_a_prompt_that_fails_beside_streams_ends_alone() -> None:
    decoder = FakeDecoder(on_call=lambda number: breaks_with(1, decoder.calls[number]))
    crowd = [Visitor(key, prompt(key, 20), 9, eos=frozenset(), arrives=key) for key in range(2)]
    play = Play(crowd, decoder).run()
    assert "beside" in {call.kind for call in decoder.calls}
    assert play.events[0] == events_alone(crowd[0])
    assert play.events[1] == [MODEL_FAILED]


def test_a_prefix_that_cannot_be_copied_ends_its_prompt_alone() -> None:
    """Where it is to be read beside streams."""

    def broken(source: int, destination: int, length: int) -> None:
        raise MemoryError

    decoder = FakeDecoder()
    decoder.copy = broken  # type: ignore[method-assign]
    crowd = [
        Visitor(key, (*prompt(9, 30), key), 9, eos=frozenset(), arrives=4 * key) for key in range(2)
    ]
    play = Play(crowd, decoder, PrefixCacheConfig()).run()
    assert play.events[0] == events_alone(crowd[0])
    assert play.events[1] == [MODEL_FAILED]
    assert decoder.held == [None] * decoder.slots


def test_what_was_read_beside_streams_can_be_reused() -> None:
    decoder = FakeDecoder()
    crowd = [
        Visitor(0, prompt(0, 9), 60, eos=frozenset()),
        Visitor(1, (*prompt(9, 30), 1), 3, eos=frozenset(), arrives=3),
        Visitor(2, (*prompt(9, 30), 2), 3, eos=frozenset(), arrives=30),
    ]
    Play(crowd, decoder, PrefixCacheConfig()).run()
    assert [call.kind for call in decoder.calls].count("beside") >= 2
    assert decoder.reused == 29, "all but two tokens, which are always read"


def test_what_was_read_beside_streams_for_a_client_that_left_can_be_reused() -> None:
    """Also by the call that went on when it left."""
    decoder = FakeDecoder()
    crowd = [
        Visitor(0, prompt(0, 9), 60, eos=frozenset()),
        Visitor(1, (*prompt(9, 15), 1), 3, eos=frozenset(), arrives=3, leaves=5),
        Visitor(2, (*prompt(9, 15), 2), 3, eos=frozenset(), arrives=30),
    ]
    play = Play(crowd, decoder, PrefixCacheConfig()).run()
    assert play.progress[1] == [Progress.BEGUN]
    assert decoder.reused == 14, "all but two tokens, which are always read"


def test_the_pace_is_told_what_each_call_took_and_whether_others_ran_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    took: list[tuple[type[object], float, bool]] = []

    def note(_: object, call: object, __: object, seconds: float, *, beside: bool) -> None:
        took.append((type(call), seconds, beside))

    monkeypatch.setattr(SteadyPacer, "took", note)
    crowd = [Visitor(key, prompt(key, 20), 5, eos=frozenset(), arrives=key) for key in range(2)]
    Play(crowd, FakeDecoder()).run()
    begun = [(PrefillCall, 1.0, False), *[(DecodeCall, 1.0, True)] * CALLS_BESIDE]
    assert took[: len(begun) + 2] == [
        *begun,
        (PrefillCall, 1.0, True),
        (DecodeCall, 1.0, False),
    ]


def test_a_prompt_that_fails_beside_streams_after_its_client_left_is_no_news() -> None:
    decoder = FakeDecoder(on_call=lambda number: breaks_with(1, decoder.calls[number]))
    crowd = [
        Visitor(0, prompt(0, 20), 9, eos=frozenset()),
        Visitor(1, prompt(1, 20), 9, eos=frozenset(), arrives=1, leaves=3),
    ]
    play = Play(crowd, decoder).run()
    assert "beside" in {call.kind for call in decoder.calls}
    assert play.events[0] == events_alone(crowd[0])
    assert play.events[1] == []
    assert decoder.held == [None] * decoder.slots


@pytest.mark.parametrize("leaves", [None, 8])
def test_nothing_of_a_prompt_that_fails_beside_streams_is_reused(leaves: int | None) -> None:
    """Nor where its client has left during the call that fails, its second."""

    def on_call(number: int) -> None:
        kinds = kinds_of_calls(decoder)
        if kinds[number] == "beside" and kinds.count("beside") == 2:
            raise ModelBroke(number)

    decoder = FakeDecoder(on_call=on_call)
    crowd = [
        Visitor(0, prompt(0, 9), 60, eos=frozenset()),
        Visitor(1, prompt(9, 40), 3, eos=frozenset(), arrives=3, leaves=leaves),
        Visitor(2, prompt(9, 40), 3, eos=frozenset(), arrives=30),
    ]
    play = Play(crowd, decoder, PrefixCacheConfig()).run()
    assert bool(play.events[1]) == (leaves is None)
    assert decoder.reused == 0


def breaks_with(key: int, call: Call) -> None:
    if key in keys_in(call.histories):
        raise ModelBroke(call)


@given(length=st.integers(1, 70), max_tokens=st.integers(1, 30))
@example(length=1, max_tokens=1)
def test_greedy_tokens_are_those_of_the_model_until_an_end(length: int, max_tokens: int) -> None:
    tokens = greedy_tokens(prompt(0, length), max_tokens, EOS)
    stopped = tokens[-1] in EOS
    shown = tokens[:-1] if stopped else tokens
    reason = FinishReason.STOP if stopped else FinishReason.LENGTH
    expected: list[Event] = [Text(text_of([token])) for token in shown]
    told = events_alone(Visitor(0, prompt(0, length), max_tokens))
    assert told == [*expected, Finished(reason, length, len(tokens))]


def test_without_ids_that_end_a_text_it_goes_on_to_the_limit() -> None:
    assert EOS & set(greedy_tokens(prompt(0, 3), 40))
    told = events_alone(Visitor(0, prompt(0, 3), 40, eos=frozenset()))
    assert told[-1] == Finished(FinishReason.LENGTH, prompt_tokens=3, generated_tokens=40)


def test_decode_rows_run_as_one_call() -> None:
    decoder = FakeDecoder(slots=4)
    crowd = [Visitor(key, prompt(key, 4), 5, eos=frozenset()) for key in range(4)]
    Play(crowd, decoder).run()
    rows = [len(call.histories) for call in decoder.calls if call.kind == "decode"]
    assert rows == [4, 4, 4, 4]


class Oracle:
    """A `Drafter` of one draft."""

    def __init__(self, draft: History) -> None:
        self._draft = draft
        self.verdicts: list[tuple[int, int]] = []

    def draft(self, generated: list[int], room: int) -> Draft:
        return self._draft[:room] if len(generated) == 1 else ()

    def verified(self, drafted: int, accepted: int) -> None:
        self.verdicts.append((drafted, accepted))


def kinds_of_calls(decoder: FakeDecoder) -> list[str]:
    return [call.kind for call in decoder.calls]


@pytest.mark.parametrize(("right", "calls"), [(6, 3), (3, 6), (0, 9)])
def test_what_is_right_of_a_draft_comes_token_by_token_out_of_one_call(
    right: int, calls: int
) -> None:
    first, *others = greedy_tokens(prompt(0, 9), 9)
    wrong = [(token + 1) % VOCABULARY for token in others[right:]]
    oracle = Oracle((*others[:right], *wrong)[:6])
    visitor = Visitor(0, prompt(0, 9), 9, eos=frozenset(), drafter=lambda prompt: oracle)
    decoder = FakeDecoder(slots=1)
    told = Play([visitor], decoder).run().events[0]
    assert told == events_alone(visitor)
    assert told[:-1] == [Text(text_of([token])) for token in (first, *others)]
    assert oracle.verdicts == [(6, right)]
    assert kinds_of_calls(decoder) == ["prefill", "verify", *["decode"] * (calls - 2)]


def test_an_end_inside_a_draft_is_the_end() -> None:
    tokens = greedy_tokens(prompt(0, 9), 9)
    oracle = Oracle(tokens[1:])
    visitor = Visitor(0, prompt(0, 9), 9, eos=frozenset(tokens[4:5]), drafter=lambda prompt: oracle)
    told = Play([visitor], FakeDecoder(slots=1)).run().events[0]
    assert told[-1] == Finished(FinishReason.STOP, prompt_tokens=9, generated_tokens=5)
    assert told == events_alone(visitor)


def test_logits_inside_a_draft_that_are_no_numbers_end_what_comes_after_them() -> None:
    tokens = greedy_tokens(prompt(0, 9), 9)
    oracle = Oracle(tokens[1:])
    visitor = Visitor(0, prompt(0, 9), 9, eos=frozenset(), drafter=lambda prompt: oracle)
    decoder = FakeDecoder(slots=1, nan_rows={1: frozenset({2})})
    told = Play([visitor], decoder).run().events[0]
    assert told == [*[Text(text_of([token])) for token in tokens[:3]], MODEL_FAILED]


def test_those_without_a_draft_decode_together_beside_it() -> None:
    crowd = [
        Visitor(key, prompt(key, 4), 5, eos=frozenset(), drafter=oracles.get(key))
        for oracles in [{1: lambda prompt: Oracle(greedy_tokens(prompt, 5)[1:])}]
        for key in range(3)
    ]
    decoder = FakeDecoder(slots=3)
    Play(crowd, decoder).run()
    rows = [(call.kind, len(call.histories)) for call in decoder.calls[3:]]
    assert rows[:3] == [("decode", 1), ("decode", 1), ("verify", 1)]
    assert set(rows[3:]) == {("decode", 2)}


def test_a_draft_is_no_longer_than_what_may_still_come() -> None:
    tokens = greedy_tokens(prompt(0, 9), 12)
    oracle = Oracle(tokens[1:])
    visitor = Visitor(0, prompt(0, 9), 4, eos=frozenset(), drafter=lambda prompt: oracle)
    decoder = FakeDecoder(slots=1, context=13)
    assert Play([visitor], decoder).run().events[0] == events_alone(visitor)
    assert oracle.verdicts == [(2, 2)]


def test_it_listens_after_each_call() -> None:
    decoder = FakeDecoder(beside=False)
    play = Play([Visitor(key, prompt(key, 20), 5, eos=frozenset()) for key in range(6)], decoder)
    play.run()
    assert play.calls_when_listening == [0, *range(1, len(decoder.calls) + 1)]


def test_at_the_end_a_prompt_beside_streams_is_waited_for() -> None:
    """No process may end during a call."""
    decoder = FakeDecoder()
    crowd = [Visitor(key, prompt(key, 20), 50, eos=frozenset(), arrives=key) for key in range(2)]
    play = Play(crowd, decoder)
    play.listen()
    for _ in range(2):
        play.core.step(play.listen)
    assert decoder.under_way
    assert not decoder.under_way.done
    play.core.wait_for_beside()
    assert decoder.under_way.done


def test_a_prompt_that_takes_very_long_beside_streams_is_waited_for() -> None:
    """So that those who watch over the engine's thread notice. Each call takes a second here."""
    decoder = FakeDecoder(calls_beside=100)
    crowd = [Visitor(key, prompt(key, 20), 50, eos=frozenset(), arrives=key) for key in range(2)]
    play = Play(crowd, decoder).run()
    kinds = [call.kind for call in decoder.calls]
    begun = kinds.index("beside")
    decoded = [len(call.histories) for call in decoder.calls[begun + 1 :]]
    assert decoded.index(2) in range(10, 13)
    for each in crowd:
        assert play.events[each.key] == events_alone(each)


def test_it_listens_while_a_prompt_is_read_beside_streams() -> None:
    decoder = FakeDecoder()
    crowd = [Visitor(key, prompt(key, 20), 20, eos=frozenset(), arrives=key) for key in range(2)]
    play = Play(crowd, decoder)
    play.run()
    begun = [call.kind for call in decoder.calls].index("beside")
    assert [begun + 2, begun + 3, begun + 4] == play.calls_when_listening[begun + 1 : begun + 4]


def test_the_start_of_a_prompt_and_each_piece_of_it_are_news() -> None:
    decoder = FakeDecoder()
    crowd = [Visitor(key, prompt(key, 60), 3, eos=frozenset()) for key in range(2)]
    progress = Play(crowd, decoder).run().progress
    pieces = [call.histories[-1] for call in decoder.calls if call.kind != "decode"]
    for key in range(2):
        read = sum(history[0] == key for history in pieces)
        assert read > 1
        assert progress[key] == [Progress.BEGUN, *[Progress.READ] * (read - 1)]


def test_a_token_without_text_is_news_too() -> None:
    silent = Visitor(0, prompt(0, 3), 5, eos=frozenset(), decode=lambda tokens: "")
    play = Play([silent], FakeDecoder()).run()
    assert play.progress[0] == [Progress.BEGUN, *[Progress.SILENT] * 4]
    assert play.events[0] == [Finished(FinishReason.LENGTH, 3, 5)]


def test_an_interrupted_call_ends_the_step_and_nobody_is_told() -> None:
    decoder = FakeDecoder(on_call=lambda number: decoder.interrupt() if number == 3 else None)
    play = Play([Visitor(key, prompt(key, 9), 20) for key in range(3)], decoder)
    with pytest.raises(Interrupted):
        play.run()
    assert all(isinstance(event, Text) for told in play.events.values() for event in told)


def test_a_device_that_is_lost_while_a_prompt_is_read_beside_streams_ends_the_engine() -> None:
    def fail(number: int) -> None:
        if decoder.calls[number].kind == "beside":
            raise DeviceLost("cuda:0: an illegal memory access was encountered")

    decoder = FakeDecoder(on_call=fail)
    with pytest.raises(DeviceLost):
        Play([Visitor(key, prompt(key, 20), 20) for key in range(3)], decoder).run()


def test_a_lost_device_ends_the_step_and_no_other_call_is_made() -> None:
    def fail(number: int) -> None:
        if number == 3:
            raise DeviceLost("cuda:0: an illegal memory access was encountered")

    decoder = FakeDecoder(on_call=fail, beside=False)
    play = Play([Visitor(key, prompt(key, 9), 20) for key in range(3)], decoder)
    with pytest.raises(DeviceLost):
        play.run()
    assert len(decoder.calls) == 4  # numbered from 0
    assert all(isinstance(event, Text) for told in play.events.values() for event in told)


def test_a_decoder_is_told_whether_the_same_sequences_are_decoded_next() -> None:
    """Not where a prompt is read in the same step, nor where one of them is at its limit."""
    decoder = FakeDecoder(slots=2, beside=False)
    told: dict[int, bool] = {}
    decode = decoder.decode

    def listening(
        tokens: list[int], pasts: list[int], first_slot: int = 0, *, again: bool = True
    ) -> Logits:
        told[len(decoder.calls)] = again
        return decode(tokens, pasts, first_slot)

    decoder.decode = listening  # type: ignore[method-assign]
    first = Visitor(0, (1, 2), 7, eos=frozenset())
    second = Visitor(1, (3, 4), 3, eos=frozenset(), arrives=4)
    Play([first, second], decoder).run()
    shapes = [(call.kind, len(call.histories)) for call in decoder.calls]
    decodes = {place: shape for place, shape in enumerate(shapes) if shape[0] == "decode"}
    assert set(told.values()) == {True, False}
    assert told == {place: shape == (*shapes, None)[place + 1] for place, shape in decodes.items()}
