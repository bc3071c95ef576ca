"""Drafts on the real default model, without rounding: the same text in fewer calls."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from model_tools.bench.speculate.prompts import COMMITTED, Kind, Prompt, read_prompts
from server.config import PrefixCacheConfig, SamplingParameters
from server.cores import usable_cores
from server.engine.core import EngineCore
from server.engine.distribution import Row
from server.engine.drafter import LookupDrafter
from server.engine.sampling import Sampler
from server.engine.sequence import Sequence
from server.engine.windowed_text import WindowedText
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder
from server.model.tokenizer import Tokenizer
from tests.engine.paces import SteadyPacer, tokens_a_step

NEW_TOKENS = 40
MAX_DRAFT = 16
CLOSE = 1e-3
"""Logits that differ by less may change their order when they are computed in another way."""
PROMPTS = [each for each in read_prompts(COMMITTED) if each.kind is Kind.EDITING][:4]


class CarefulSampler(Sampler):
    """Greedy; remembers each choice's margin over the second best."""

    def __init__(self) -> None:
        super().__init__(SamplingParameters(), np.array([], np.int64))
        self.margins: list[float] = []

    def choose(self, row: Row) -> int | None:
        second, first = np.partition(row, -2)[-2:]
        self.margins.append(float(first - second))
        return super().choose(row)


@dataclass(frozen=True, slots=True)
class Answer:
    tokens: list[int]
    margins: list[float]
    accepted: int
    steps: int


@pytest.fixture(scope="module")
def decoder(fp32_folder: Path) -> CpuDecoder:
    folder = ModelFolder.read(fp32_folder)
    return CpuDecoder(folder, slots=1, context=512, threads=usable_cores())


def answer(decoder: CpuDecoder, prompt: list[int], longest_draft: int) -> Answer:
    pacer = SteadyPacer(tokens_a_step(alone=512, beside_streams=32))
    core = EngineCore(decoder, lambda messages: None, pacer, PrefixCacheConfig())
    tokens = np.array(prompt)
    sampler = CarefulSampler()
    drafter = LookupDrafter(tokens, longest_draft) if longest_draft else None
    sequence = Sequence(
        key=0,
        prompt=tokens,
        max_tokens=NEW_TOKENS,
        eos_token_ids=frozenset(),
        sampler=sampler,
        text=WindowedText(lambda tokens: ""),
        drafter=drafter,
    )
    core.submit(sequence)
    steps = 0
    while core.busy:
        core.step(lambda: None)
        steps += 1
    return Answer(sequence.generated, sampler.margins, drafter.accepted if drafter else 0, steps)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda each: each.name)
def test_greedy_tokens_are_those_without_drafts_but_where_two_are_close(
    fp32_folder: Path, decoder: CpuDecoder, prompt: Prompt
) -> None:
    tokens = Tokenizer.read(fp32_folder / "tokenizer.json").encode(prompt.text)
    plain = answer(decoder, tokens, 0)
    drafting = answer(decoder, tokens, MAX_DRAFT)
    assert drafting.accepted >= NEW_TOKENS // 4
    assert drafting.steps == plain.steps - drafting.accepted
    pairs = zip(plain.tokens, drafting.tokens, strict=True)
    parted = next((step for step, (one, other) in enumerate(pairs) if one != other), None)
    if parted is not None:
        assert plain.margins[parted] < CLOSE
