"""Answers prompts in process, one at a time, with and without speculation.

Knows the engine's internals; does not know its thread, nor what the times are for.
"""

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_tools.bench.engine.skiff_runner import nothing_came, refuse_failures
from server.config import GAP_STRETCH, PrefixCacheConfig, PrefixReuse, SamplingParameters
from server.engine.core import EngineCore
from server.engine.drafter import LookupDrafter
from server.engine.pacer import Pacer
from server.engine.sampling import Sampler
from server.engine.sequence import Sequence
from server.engine.text import incremental_text
from server.errors import StartError
from server.model.folder import ModelFolder
from server.model.opening import open_cpu_decoder
from server.model.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Answer:
    """Counts and time of an answer, after its first token."""

    tokens: int
    seconds: float
    drafted: int
    accepted: int
    """Drafted tokens that were accepted."""

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


class AnswerRunner:
    """A model on the CPU with one slot."""

    def __init__(self, folder: Path, *, context: int, threads: int) -> None:
        """Raises `StartError`."""
        model = ModelFolder.read(folder)
        self._context = min(context, model.context_length)
        self._eos_token_ids = model.eos_token_ids
        self._tokenizer = Tokenizer.read(model.tokenizer_file)
        decoder = open_cpu_decoder(model, slots=1, context=self._context, threads=threads)
        off = PrefixCacheConfig(PrefixReuse.OFF)
        self._core = EngineCore(decoder, refuse_failures, Pacer(GAP_STRETCH), off)
        self._keys = itertools.count()

    def answer(
        self, prompt: str, new_tokens: int, sampling: SamplingParameters, longest_draft: int
    ) -> Answer:
        """Answers up to the end of text, or to `new_tokens` after the first one; without
        speculation if `longest_draft` is 0. Raises `StartError`."""
        tokens = np.array(self._tokenizer.encode(prompt), np.int64)
        if len(tokens) + new_tokens + 1 > self._context:
            raise StartError(
                f"a prompt of {len(tokens)} tokens and {new_tokens + 1} new ones are more than the"
                f" context of {self._context}"
            )
        drafter = LookupDrafter(tokens, longest_draft) if longest_draft else None
        sequence = Sequence(
            key=next(self._keys),
            prompt=tokens,
            max_tokens=new_tokens + 1,
            eos_token_ids=self._eos_token_ids,
            sampler=Sampler(sampling, tokens),
            text=incremental_text(self._tokenizer),
            drafter=drafter,
        )
        self._core.submit(sequence)
        while not sequence.generated:
            self._core.step(nothing_came)
        begin = time.perf_counter()
        while not sequence.ended:
            self._core.step(nothing_came)
        seconds = time.perf_counter() - begin
        self._core.step(nothing_came)  # gives the slot back
        drafted, accepted = (drafter.drafted, drafter.accepted) if drafter else (0, 0)
        return Answer(len(sequence.generated) - 1, seconds, drafted, accepted)
