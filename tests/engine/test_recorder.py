"""What the engine's thread tells of its steps is what its clients saw of them."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings

from server.config import PrefixCacheConfig
from server.engine.core import MODEL_FAILED
from server.engine.events import Finished
from server.engine.facts import Fact, PrefillDone, StepKind, StepTaken
from tests.engine.fake_decoder import FakeDecoder, greedy_tokens
from tests.engine.play import EOS, Play, Visitor
from tests.engine.test_core import Oracle, breaks_in, crowds, slot_counts


def played(play: Play, facts: list[Fact]) -> tuple[list[StepTaken], list[PrefillDone]]:
    play.run()
    steps = [fact for fact in facts if isinstance(fact, StepTaken)]
    return steps, [fact for fact in facts if isinstance(fact, PrefillDone)]


@settings(max_examples=60)
@given(crowd=crowds, slots=slot_counts)
def test_gaps_and_counts_are_those_of_the_clients(crowd: tuple[Visitor, ...], slots: int) -> None:
    facts: list[Fact] = []
    play = Play(crowd, FakeDecoder(slots), observe=facts.append)
    steps, prompts = played(play, facts)
    assert len(prompts) == len(play.token_times)
    check_gaps_and_counts(steps, play)


def check_gaps_and_counts(steps: list[StepTaken], play: Play) -> None:
    times = play.token_times.values()
    assert sum(step.generated_tokens for step in steps) == sum(map(len, times))
    gaps: Counter[float] = Counter()
    for step in steps:
        gaps.update(step.gaps)
    assert gaps == Counter(after - before for each in times for before, after in pairwise(each))


@pytest.mark.parametrize(
    ("kind", "failed"), [("prefill", 0), ("decode", 0), ("decode", 1), ("verify", 2)]
)
def test_a_token_that_could_not_be_chosen_does_not_count(kind: str, failed: int) -> None:
    tokens = greedy_tokens((0, 1), 9)
    crowd = [
        Visitor(0, (0, 1), 9, eos=frozenset(), drafter=lambda _: Oracle(tokens[1:5])),
        *(Visitor(key, (key, 1), 9, eos=frozenset()) for key in (1, 2)),
    ]
    whole = FakeDecoder()
    Play(crowd, whole).run()
    number = [call.kind for call in whole.calls].index(kind)
    facts: list[Fact] = []
    decoder = FakeDecoder(nan_rows={number: frozenset({failed})})
    play = Play(crowd, decoder, observe=facts.append)
    steps, prompts = played(play, facts)
    assert sum(told[-1] == MODEL_FAILED for told in play.events.values()) == 1
    assert len(prompts) == 3
    check_gaps_and_counts(steps, play)


@settings(max_examples=30)
@given(crowd=crowds, slots=slot_counts)
def test_each_second_of_the_runtime_is_in_one_step(crowd: tuple[Visitor, ...], slots: int) -> None:
    facts: list[Fact] = []
    decoder = FakeDecoder(slots, on_call=breaks_in(frozenset({3, 5})))
    steps, _ = played(Play(crowd, decoder, observe=facts.append), facts)
    assert sum(step.runtime_seconds for step in steps) == decoder.runtime_seconds
    assert sum(step.seconds for step in steps) == decoder.runtime_seconds
    prefills = sum(call.kind == "prefill" for call in decoder.calls)
    reading = [step for step in steps if step.kind is StepKind.PROMPT]
    assert prefills <= sum(step.runtime_seconds for step in reading)


def test_a_lone_request_is_taken_down_call_by_call() -> None:
    facts: list[Fact] = []
    visitor = Visitor(0, tuple(range(20)) * 2, max_tokens=3, eos=frozenset())
    steps, [prompt] = played(Play([visitor], FakeDecoder(), observe=facts.append), facts)
    assert prompt == PrefillDone(40, 0, queue_seconds=1, prefill_seconds=2)
    assert [(step.kind.value, step.generated_tokens, len(step.gaps)) for step in steps] == [
        ("prompt", 0, 0),
        ("prompt", 1, 0),
        ("decode", 1, 1),
        ("decode", 1, 1),
    ]


def test_reused_tokens_are_told() -> None:
    facts: list[Fact] = []
    first, second = (
        Visitor(key, (*range(20), key), max_tokens=2, arrives=20 * key, eos=EOS) for key in (0, 1)
    )
    play = Play([first, second], FakeDecoder(), PrefixCacheConfig(), facts.append)
    _, prompts = played(play, facts)
    ends = [event for key in (0, 1) for event in play.events[key] if isinstance(event, Finished)]
    assert [prompt.reused_tokens for prompt in prompts] == [end.reused_tokens for end in ends]
    assert prompts[1].reused_tokens == 19
