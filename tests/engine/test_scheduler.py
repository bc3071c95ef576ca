"""The scheduler keeps its promises whatever comes and goes, and plans what the gold one plans."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from server.engine.costs import Costs, Rates
from server.engine.lookup import Draft
from server.engine.pace import Pace
from server.engine.plan import (
    DecodeCall,
    PrefillCall,
    SavedPrefix,
    SlotMove,
    SlotPrefix,
    StepPlan,
    VerifyCall,
)
from server.engine.prefixes import Found
from server.engine.scheduler import Scheduler, cut
from tests.engine.fake_decoder import FakeDecoder, FakeSaved
from tests.engine.gold_scheduler import GoldScheduler, GoldStep, Read, longest_read
from tests.engine.paces import tokens_a_step, tokens_beside

SAVED = FakeSaved(FakeDecoder(), [])
PLENTY = tokens_a_step(alone=512, beside_streams=32)
few = st.integers(0, 5)
rates = st.builds(Rates, call=few, token=st.integers(1, 5), past=few, pair=few)
paces = st.builds(
    tokens_a_step, alone=st.integers(4, 70), beside_streams=st.integers(4, 40)
) | st.builds(
    Pace,
    st.builds(Costs, rates, rates, rates),
    stretch=st.sampled_from([1.1, 2, 9]),
    longest_call=st.integers(0, 90),
    longest_call_beside=st.integers(0, 90),
)


class SlotTable:
    """What lies in each slot, from the plans alone."""

    def __init__(self, slots: int) -> None:
        self.held: list[int | None] = [None] * slots
        self.tokens: dict[int, int] = {}
        """Tokens of each sequence that has a slot."""
        self.running: set[int] = set()
        """Sequences that decoded."""
        self.dead: set[int] = set()

    def apply(
        self, plan: StepPlan, found: dict[int, Found | None], accepted: dict[int, int]
    ) -> None:
        before = dict(self.tokens)
        for move in plan.moves:
            self._move(move)
        if plan.begins:
            self._begin(plan.begins, found.get(plan.begins.key), before)
            self._read(plan.begins)
        for call in plan.calls:
            if isinstance(call, DecodeCall):
                assert call.keys == tuple(self.held[call.first_slot :][: len(call.keys)])
                self._grow(call.keys)
            elif isinstance(call, VerifyCall):
                assert self.held[call.slot] == call.key
                self._grow([call.key] * (accepted[call.key] + 1))
            else:
                self._begin(call, found.get(call.key), before)
                self._read(call)
        assert not self.dead & set(self.held), "a slot of a removed sequence was kept"

    def _grow(self, keys: Iterable[int]) -> None:
        """By a token for each."""
        for key in keys:
            self.running.add(key)
            self.tokens[key] += 1

    def release(self, key: int, slot: int) -> None:
        """One that was given before anything was read into it is free already."""
        assert self.held[slot] in (key, None)
        self.held[slot] = None

    def _move(self, move: SlotMove) -> None:
        key = self.held[move.source]
        assert self.held[move.destination] is None
        assert move.length == (0 if key is None else self.tokens[key])
        self.held[move.source], self.held[move.destination] = None, key

    def _begin(self, call: PrefillCall, found: Found | None, before: dict[int, int]) -> None:
        """What a prompt begins with was there before the step."""
        if found is None or found.source is None:
            assert call.prefix is None
            return
        assert self.held[call.slot] is None
        self.held[call.slot], self.tokens[call.key] = call.key, found.length
        if isinstance(found.source, int):
            source = self.held.index(found.source)
            assert call.prefix == SlotPrefix(source, found.length)
            assert before[found.source] >= found.length
        else:
            assert call.prefix == SavedPrefix(found.source, found.length)

    def _read(self, call: PrefillCall) -> None:
        assert self.held[call.slot] == (call.key if call.start else None)
        assert self.tokens.get(call.key, 0) == call.start
        self.held[call.slot] = call.key
        self.tokens[call.key] = call.stop


def test_a_prompt_without_pages_is_looked_at_again_when_a_sequence_ends() -> None:
    asked: list[int] = []

    def find(key: int, reading: Sequence[PrefillCall]) -> Found | None:
        asked.append(key)
        return Found() if key == 0 or not running else None

    running = {0}
    scheduler = Scheduler(2, 4, find, beside=False)
    scheduler.submit(0, 8)
    scheduler.plan(PLENTY, {})
    scheduler.submit(1, 8)
    for _ in range(5):
        scheduler.plan(PLENTY, {})
    assert asked == [0, 1]
    scheduler.remove(0)
    running.clear()
    assert scheduler.plan(PLENTY, {}).calls == (PrefillCall(1, 0, 0, 8, last=True),)
    assert asked == [0, 1, 1]


class AnyOrder(RuleBasedStateMachine):
    """Sequences come, are planned and go in any order."""

    @initialize(slots=st.integers(1, 5), tile=st.sampled_from([4, 16, 32]), beside=st.booleans())
    def begin(self, slots: int, tile: int, beside: bool) -> None:
        self.beside: int | None = None
        """Whose prompt is being read beside others."""
        self.scheduler = Scheduler(slots, tile, self.find, beside=beside)
        self.gold = GoldScheduler(slots, tile, lambda key: self.find(key, []), beside=beside)
        self.table = SlotTable(slots)
        self.alive: dict[int, int] = {}
        self.keys = 0
        self.data: st.DataObject | None = None
        self.found: dict[int, Found | None] = {}
        """What was found in this step."""

    def find(self, key: int, reading: Sequence[PrefillCall]) -> Found | None:
        """Anything that is allowed, and the same however often it is asked in one step."""
        if key not in self.found:
            self.found[key] = self.data.draw(self.findings(key, reading)) if self.data else Found()
        return self.found[key]

    def findings(self, key: int, reading: Sequence[PrefillCall]) -> st.SearchStrategy[Found | None]:
        most = self.alive[key] - 2
        held = {other: min(self.table.tokens.get(other, 0), most) for other in self.alive}
        running = [
            st.builds(Found, st.just(k), st.integers(2, n)) for k, n in held.items() if n > 1
        ]
        saved = [st.builds(Found, st.just(SAVED), st.integers(2, most))] if most > 1 else []
        later = [st.none()] if reading else []
        return st.one_of(st.just(Found()), *running, *saved, *later)

    @rule(prompt_tokens=st.integers(1, 6) | st.integers(1, 150))
    def submit(self, prompt_tokens: int) -> None:
        self.scheduler.submit(self.keys, prompt_tokens)
        self.gold.submit(self.keys, prompt_tokens)
        self.alive[self.keys] = prompt_tokens
        self.keys += 1

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        for key in data.draw(st.sets(st.sampled_from(sorted(self.alive)), min_size=1)):
            self._remove(key)

    @rule(times=st.integers(1, 4), pace=paces, data=st.data())
    def step(self, times: int, pace: Pace, data: st.DataObject | None) -> None:
        self.data = data
        for _ in range(times):
            self.found.clear()
            busy = self.scheduler.busy
            drafts = data.draw(self.drafts()) if data else {}
            again = None if drafts else self.scheduler.again()
            plan = again or self.scheduler.plan(pace, drafts)
            assert busy == (plan != StepPlan() or self.beside is not None)
            assert calls_of(plan, self.alive, drafts) == self.gold.plan(pace, drafts)
            accepted = {
                key: data.draw(st.integers(0, len(draft))) if data else 0
                for key, draft in drafts.items()
            }
            self.table.apply(plan, self.found, accepted)
            for key, tokens in accepted.items():
                self.scheduler.accepted(key, tokens)
                self.gold.accepted(key, tokens)
            if plan.begins:
                self.beside = plan.begins.key
            if self.beside is not None and (
                not plan.calls or data is None or data.draw(st.booleans())
            ):
                self._end_beside(self.beside)

    def _end_beside(self, key: int) -> None:
        self.gold.beside_ended()
        slot = self.scheduler.beside_ended()
        assert (slot is None) == (key in self.alive)
        if slot is not None:
            self.table.release(key, slot)
            self.table.dead.add(key)
        self.beside = None

    def drafts(self) -> st.SearchStrategy[dict[int, Draft]]:
        """For any of those whose prompts are read whole."""
        read = [key for key in self.alive if self.table.tokens.get(key, 0) >= self.alive[key]]
        decoding = [key for key in read if key != self.beside]
        if not decoding:
            return st.just({})
        draft = st.integers(1, 3).map(lambda length: tuple(range(length)))
        return st.dictionaries(st.sampled_from(decoding), draft)

    @rule()
    def drain(self) -> None:
        """Nobody starves: in each step some prompt comes nearer to its end, and here a sequence
        ends with its second token."""
        for _ in range(sum(self.alive.values()) + 2 * len(self.alive)):
            self.step(times=1, pace=tokens_a_step(8, 4), data=None)
            for key in [key for key in self.alive if key in self.table.running]:
                self._remove(key)
        self.step(times=1, pace=PLENTY, data=None)
        assert not self.alive
        assert not self.scheduler.busy
        assert self.table.held == [None] * len(self.table.held)

    def _remove(self, key: int) -> None:
        slot = self.scheduler.remove(key)
        if slot is not None:
            self.table.release(key, slot)
        self.gold.remove(key)
        del self.alive[key]
        if key != self.beside:
            self.table.dead.add(key)


def calls_of(plan: StepPlan, prompts: dict[int, int], drafts: dict[int, Draft]) -> GoldStep:
    """The plan without its slots; decode rows come first, as few calls as their slots allow, then
    drafts, and only a prompt's end is its last."""
    calls = list(plan.calls)
    decodes = [call for call in calls if isinstance(call, DecodeCall)]
    reads = [call for call in calls if isinstance(call, PrefillCall)]
    verifies = [call for call in calls if isinstance(call, VerifyCall)]
    assert calls == [*decodes, *verifies, *reads]
    assert all(a.first_slot + len(a.keys) < b.first_slot for a, b in pairwise(decodes))
    assert {call.key: call.draft for call in verifies} == drafts
    begins = [plan.begins] if plan.begins else []
    assert all(call.last == (call.stop == prompts[call.key]) for call in (*reads, *begins))
    decoded = frozenset(key for call in decodes for key in call.keys)
    verified = frozenset(call.key for call in verifies)
    return GoldStep(
        decoded, verified, tuple(map(read_of, reads)), read_of(plan.begins) if plan.begins else None
    )


def read_of(call: PrefillCall) -> Read:
    return Read(call.key, call.start, call.stop)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=200, stateful_step_count=30)


@given(unread=st.integers(1, 200), budget=st.integers(4, 200), tile=st.sampled_from([4, 16, 32]))
def test_a_cut_is_the_longest_that_leaves_no_token_alone(
    unread: int, budget: int, tile: int
) -> None:
    assert cut(unread, budget, tile) == longest_read(unread, budget, tile)


@given(prompt=st.integers(1, 400), budget=st.integers(4, 130), tile=st.sampled_from([4, 16, 32]))
def test_a_prompt_is_read_to_its_end_and_never_one_token_of_many(
    prompt: int, budget: int, tile: int
) -> None:
    lengths: list[int] = []
    while sum(lengths) < prompt:
        lengths.append(cut(prompt - sum(lengths), budget, tile))
        assert 0 < lengths[-1] <= budget
    assert sum(lengths) == prompt
    assert prompt == 1 or all(length % tile != 1 for length in lengths)


@pytest.mark.parametrize(
    ("unread", "budget", "expected"),
    [
        (1, 512, 1),  # a prompt that is one token
        (2, 4, 2),
        (5, 4, 3),  # 4 leaves one
        (33, 33, 31),  # 33 is a tile and a token, and 32 leaves one
        (34, 33, 32),
        (129, 512, 127),
        (513, 512, 511),
        (514, 512, 512),
    ],
)
def test_cut(unread: int, budget: int, expected: int) -> None:
    assert cut(unread, budget, tile=32) == expected


def test_the_last_row_takes_the_place_of_one_that_ends() -> None:
    scheduler = Scheduler(slots=3, tile=32, find=nothing, beside=False)
    for key in range(3):
        scheduler.submit(key, prompt_tokens=10)
    assert [
        call.slot for call in scheduler.plan(PLENTY, {}).calls if isinstance(call, PrefillCall)
    ] == [
        0,
        1,
        2,
    ]
    assert scheduler.plan(PLENTY, {}).calls == (DecodeCall((0, 1, 2)),)
    scheduler.remove(0)
    plan = scheduler.plan(PLENTY, {})
    assert plan == StepPlan((SlotMove(2, 0, length=11),), (DecodeCall((2, 1)),))


def test_a_step_is_repeated_until_somebody_comes_or_goes() -> None:
    scheduler = Scheduler(slots=2, tile=32, find=nothing, beside=False)
    scheduler.submit(0, prompt_tokens=10)
    scheduler.plan(PLENTY, {})
    assert scheduler.again() is None
    plan = scheduler.plan(PLENTY, {})
    assert scheduler.again() is plan
    scheduler.submit(1, prompt_tokens=10)
    assert scheduler.again() is None
    scheduler.plan(PLENTY, {})
    plan = scheduler.plan(PLENTY, {})
    scheduler.submit(2, prompt_tokens=10)
    assert scheduler.plan(PLENTY, {}) == plan
    assert scheduler.again() == plan, "a prompt waits for a slot"
    scheduler.remove(0)
    assert scheduler.again() is None
    assert scheduler.plan(PLENTY, {}).moves == (SlotMove(1, 0, length=13),)


def test_a_prompt_is_read_beside_the_steps_of_those_that_decode() -> None:
    """A draft and the end of a stream change nothing, and the next prompt waits for its end."""
    pace = tokens_beside(alone=22, beside=20)
    scheduler = Scheduler(slots=4, tile=32, find=nothing, beside=True)
    for key, prompt_tokens in enumerate((10, 11, 30)):
        scheduler.submit(key, prompt_tokens)
    plan = scheduler.plan(pace, {})
    assert plan.calls == tuple(PrefillCall(k, k, 0, n, last=True) for k, n in ((0, 10), (1, 11)))
    plan = scheduler.plan(pace, {})
    assert plan.begins == PrefillCall(2, 2, 0, 15, last=False)
    assert plan.calls == (DecodeCall((0, 1)),)
    scheduler.submit(3, prompt_tokens=10)
    assert scheduler.plan(pace, {0: (7,)}).calls == (
        DecodeCall((1,), first_slot=1),
        VerifyCall(0, 0, (7,)),
    )
    scheduler.remove(0)
    assert scheduler.plan(pace, {}) == StepPlan((SlotMove(1, 0, 13),), (DecodeCall((1,)),))
    assert scheduler.beside_ended() is None
    plan = scheduler.plan(pace, {})
    assert plan == StepPlan((), (DecodeCall((1,)),), PrefillCall(2, 2, 15, 30, last=True))
    assert scheduler.again() is None
    scheduler.beside_ended()
    plan = scheduler.plan(pace, {})
    assert plan.moves == (SlotMove(2, 1, 30),)
    assert plan.calls == (DecodeCall((1, 2)),)
    assert plan.begins == PrefillCall(3, 2, 0, 10, last=True)


def test_a_sequence_that_leaves_while_it_is_read_beside_others_keeps_its_slot_until_then() -> None:
    pace = tokens_beside(alone=10, beside=20)
    scheduler = Scheduler(slots=2, tile=32, find=nothing, beside=True)
    scheduler.submit(0, prompt_tokens=10)
    scheduler.plan(pace, {})
    scheduler.submit(1, prompt_tokens=10)
    assert scheduler.plan(pace, {}).begins == PrefillCall(1, 1, 0, 10, last=True)
    assert scheduler.remove(1) is None
    scheduler.submit(2, prompt_tokens=10)
    assert scheduler.plan(pace, {}) == StepPlan((), (DecodeCall((0,)),))
    scheduler.remove(0)
    assert scheduler.busy
    assert scheduler.plan(pace, {}) == StepPlan()
    assert scheduler.beside_ended() == 1
    assert scheduler.plan(pace, {}).calls == (PrefillCall(2, 0, 0, 10, last=True),)


def test_while_a_prompt_is_read_beside_them_steps_are_repeated() -> None:
    pace = tokens_beside(alone=10, beside=20)
    scheduler = Scheduler(slots=2, tile=32, find=nothing, beside=True)
    scheduler.submit(0, prompt_tokens=10)
    scheduler.plan(pace, {})
    scheduler.submit(1, prompt_tokens=10)
    scheduler.plan(pace, {})
    assert scheduler.again() is None
    plan = scheduler.plan(pace, {})
    assert scheduler.again() is plan
    scheduler.beside_ended()
    assert scheduler.again() is None


def test_those_between_drafts_are_a_call_for_each_run_of_neighbours() -> None:
    scheduler = Scheduler(slots=5, tile=32, find=nothing, beside=False)
    for key in range(5):
        scheduler.submit(key, prompt_tokens=10)
    scheduler.plan(PLENTY, {})
    assert scheduler.plan(PLENTY, {1: (7,), 4: (8, 9)}).calls == (
        DecodeCall((0,)),
        DecodeCall((2, 3), first_slot=2),
        VerifyCall(1, 1, (7,)),
        VerifyCall(4, 4, (8, 9)),
    )


def test_accepted_tokens_move_with_their_sequence() -> None:
    scheduler = Scheduler(slots=2, tile=32, find=nothing, beside=False)
    for key in range(2):
        scheduler.submit(key, prompt_tokens=10)
    scheduler.plan(PLENTY, {})
    scheduler.plan(PLENTY, {1: (7, 8, 9)})
    scheduler.accepted(1, 2)
    scheduler.remove(0)
    assert scheduler.plan(PLENTY, {}).moves == (SlotMove(1, 0, length=13),)


def nothing(key: int, reading: Sequence[PrefillCall]) -> Found:
    return Found()


def test_a_prompt_begins_with_what_another_one_has_read_in_the_slot_where_it_now_lies() -> None:
    """Moved in the same step, before all calls."""
    sources = {2: Found(1, length=8)}
    scheduler = Scheduler(
        2, tile=32, find=lambda key, reading: sources.get(key, Found()), beside=False
    )
    for key in range(3):
        scheduler.submit(key, prompt_tokens=10)
    scheduler.plan(PLENTY, {})
    scheduler.remove(0)
    assert scheduler.plan(PLENTY, {}) == StepPlan(
        (SlotMove(1, 0, length=10),),
        (DecodeCall((1,)), PrefillCall(2, 1, 8, 10, last=True, prefix=SlotPrefix(0, length=8))),
    )


def test_a_prompt_that_is_to_wait_for_another_holds_up_those_behind_it() -> None:
    """In order of arrival."""
    scheduler = Scheduler(
        3, tile=32, find=lambda key, reading: None if reading else Found(), beside=False
    )
    for key in range(3):
        scheduler.submit(key, prompt_tokens=10)
    for key in range(3):
        *_, call = scheduler.plan(PLENTY, {}).calls
        assert call == PrefillCall(key, slot=key, start=0, stop=10, last=True)
