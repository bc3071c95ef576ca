"""The promise of the engine, on the real default model: a request's greedy tokens are the same to
the last bit of their logits, alone and in any mix of neighbours."""

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from server.config import PrefixCacheConfig, PrefixReuse, SamplingParameters
from server.cores import usable_cores
from server.engine.core import EngineCore
from server.engine.distribution import Row
from server.engine.events import EngineMessage, Finished
from server.engine.lookup import Draft
from server.engine.pace import Pace
from server.engine.plan import (
    DecodeCall,
    PrefillCall,
    SavedPrefix,
    SlotPrefix,
    StepPlan,
)
from server.engine.sampling import Sampler
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence
from server.engine.windowed_text import WindowedText
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder
from server.model.opening import open_cpu_decoder
from server.model.tokenizer import Tokenizer
from tests.engine.paces import ChangingPacer, tokens_a_step, tokens_beside

SLOTS = 4
NEW_TOKENS = 26
THREADS = max(2, usable_cores())
"""So that prompts are read beside streams."""
LENGTHS = (
    *(1, 1, 2, 3, 4, 7, 12, 18, 31, 32, 33, 34, 48, 63),
    *(65, 96, 97, 127, 128, 129, 160, 193, 257, 321, 413, 513, 700),
)
"""Prompt lengths in tokens, around the sizes of attention's tiles and of the prefill budgets."""
NO_REUSE = PrefixCacheConfig(PrefixReuse.OFF)
TEXT = Path(__file__).resolve().parent.parent / "LICENSE"


@dataclass(frozen=True, slots=True)
class Choice:
    token: int
    logits: str
    """Digest of all logits that the token was chosen from."""


class WatchedSampler(Sampler):
    """Greedy; remembers each choice."""

    def __init__(self) -> None:
        super().__init__(SamplingParameters(), np.array([], np.int64))
        self.choices: list[Choice] = []

    def choose(self, row: Row) -> int | None:
        token = super().choose(row)
        assert token is not None
        self.choices.append(Choice(token, hashlib.blake2b(row.tobytes()).hexdigest()))
        return token


@dataclass(frozen=True, slots=True)
class Visitor:
    """A request that arrives, and may leave, after so many calls into the model."""

    key: int
    prompt: list[int]
    arrives: int = 0
    leaves: int | None = None


class Play:
    """Runs all visitors to their end; `choices` then has the tokens of each, by key."""

    def __init__(
        self,
        decoder: CpuDecoder,
        visitors: Iterable[Visitor],
        prefix_cache: PrefixCacheConfig = NO_REUSE,
    ) -> None:
        self._coming = sorted(visitors, key=lambda visitor: visitor.arrives)
        self._leaving = [visitor for visitor in self._coming if visitor.leaves is not None]
        in_steps = [tokens_a_step(512, tokens) for tokens in (32, 20, 45)]
        pacer = ChangingPacer(*in_steps, *[tokens_beside(512, tokens) for tokens in (30, 70)])
        self._core = EngineCore(decoder, self._deliver, pacer, prefix_cache)
        self._calls = 0
        self.reused: dict[int, int] = {}
        """Prompt tokens that were not read, by key of each request that finished."""
        self.choices: dict[int, list[Choice]] = {}
        while self._coming or self._core.busy:
            self._listen()
            self._core.step(self._listen)

    def _listen(self) -> None:
        self._calls += 1
        while self._coming and (self._coming[0].arrives <= self._calls or not self._core.busy):
            self._enter(self._coming.pop(0))
        for visitor in self._leaving:
            if visitor.leaves == self._calls:
                self._core.cancel(visitor.key)

    def _deliver(self, events: list[tuple[int, EngineMessage]]) -> None:
        for key, event in events:
            if isinstance(event, Finished):
                self.reused[key] = event.reused_tokens

    def _enter(self, visitor: Visitor) -> None:
        sampler = WatchedSampler()
        self.choices[visitor.key] = sampler.choices
        self._core.submit(
            Sequence(
                key=visitor.key,
                prompt=np.array(visitor.prompt),
                max_tokens=NEW_TOKENS,
                eos_token_ids=frozenset(),
                sampler=sampler,
                text=WindowedText(lambda tokens: ""),
            )
        )


def visitors(folder: Path) -> list[Visitor]:
    """Prompts cut out of a text, arriving in random order, every sixth leaving early."""
    text = Tokenizer.read(folder / "tokenizer.json").encode(TEXT.read_text())
    chance = random.Random(2)
    lengths = chance.sample(LENGTHS, len(LENGTHS))
    arrivals = sorted(chance.randrange(180) for _ in lengths)
    found = []
    for key, (length, arrives) in enumerate(zip(lengths, arrivals, strict=True)):
        start = chance.randrange(len(text) - length)
        leaves = arrives + chance.randrange(5, 40) if key % 6 == 5 else None
        found.append(Visitor(key, text[start : start + length], arrives, leaves))
    return found


@pytest.fixture(params=["int8_folder", "int8_kv_folder"])
def exported(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def test_greedy_tokens_are_bit_identical_alone_and_in_any_mix(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = max(LENGTHS) + NEW_TOKENS
    folder = ModelFolder.read(exported)
    decoder = open_cpu_decoder(folder, slots=SLOTS, context=context, threads=THREADS)
    everyone = visitors(exported)
    alone = {each.key: Play(decoder, [each]).choices[each.key] for each in map(stays, everyone)}
    plans = recorded_plans(monkeypatch)
    together = Play(decoder, everyone).choices
    for each in everyone:
        given = together[each.key]
        assert given == alone[each.key][: len(given)], f"a prompt of {len(each.prompt)} tokens"
        assert len(given) == NEW_TOKENS or each.leaves is not None
    assert_everything_occurred(plans)


def visitors_alike(folder: Path) -> list[Visitor]:
    """Prompts that begin with parts of one text and go on with parts of another."""
    text = Tokenizer.read(folder / "tokenizer.json").encode(TEXT.read_text())
    chance = random.Random(3)
    starts = [chance.choice((2, 5, 31, 32, 33, 64, 65, 100, 129, 300)) for _ in range(20)]
    arrivals = sorted(chance.randrange(140) for _ in starts)
    found = []
    for key, (start, arrives) in enumerate(zip(starts, arrivals, strict=True)):
        tail = chance.randrange(400, len(text) - 70)
        prompt = text[:start] + text[tail : tail + chance.choice((1, 2, 3, 31, 33, 66))]
        leaves = arrives + chance.randrange(5, 40) if key % 6 == 5 else None
        found.append(Visitor(key, prompt, arrives, leaves))
    return found


def test_greedy_tokens_are_bit_identical_read_or_begun_with_what_others_read(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ModelFolder.read(exported)
    decoder = open_cpu_decoder(folder, slots=SLOTS, context=512, threads=THREADS)
    everyone = visitors_alike(exported)
    alone = {each.key: Play(decoder, [each]).choices[each.key] for each in map(stays, everyone)}
    plans = recorded_plans(monkeypatch)
    kept = PrefixCacheConfig(PrefixReuse.PROMPTS, capacity=1000 * decoder.token_bytes)
    together = Play(decoder, everyone, kept)
    for each in everyone:
        given = together.choices[each.key]
        assert given == alone[each.key][: len(given)], f"a prompt of {len(each.prompt)} tokens"
        assert len(given) == NEW_TOKENS or each.leaves is not None
    calls = prompt_calls(plans)
    kinds = [type(call.prefix) for call in calls]
    assert kinds.count(SlotPrefix) >= 3
    assert kinds.count(SavedPrefix) >= 5
    begun = {call.prefix.length for call in calls if call.prefix}
    assert len(begun) >= 8
    assert set(together.reused.values()) <= begun | {0}


def stays(visitor: Visitor) -> Visitor:
    return Visitor(visitor.key, visitor.prompt)


def recorded_plans(monkeypatch: pytest.MonkeyPatch) -> list[StepPlan]:
    plans: list[StepPlan] = []
    plan = Scheduler.plan

    def recording(self: Scheduler, pace: Pace, drafts: Mapping[int, Draft]) -> StepPlan:
        plans.append(plan(self, pace, drafts))
        return plans[-1]

    monkeypatch.setattr(Scheduler, "plan", recording)
    return plans


def assert_everything_occurred(plans: list[StepPlan]) -> None:
    """Assert that there were batches of all sizes, prompts cut at several sizes, moves of slots."""
    calls = [call for plan in plans for call in plan.calls]
    rows = {len(call.keys) for call in calls if isinstance(call, DecodeCall)}
    assert {2, 3, 4} <= rows
    begins = [plan.begins for plan in plans if plan.begins]
    assert {True, False} == {call.last for call in begins}
    parts = [call for call in prompt_calls(plans) if not call.last]
    assert len({part.stop - part.start for part in parts}) >= 3
    assert len({part.key for part in parts}) >= 6
    assert sum(len(plan.moves) for plan in plans) >= 6
    assert any(call.slot > 0 for call in prompt_calls(plans))


def prompt_calls(plans: list[StepPlan]) -> list[PrefillCall]:
    """All pieces of prompts, in steps or beside them."""
    calls = [call for plan in plans for call in (plan.begins, *plan.calls)]
    return [call for call in calls if isinstance(call, PrefillCall)]
