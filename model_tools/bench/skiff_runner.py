"""Skiff's engine under a workload: the whole step, from the scheduler's plan to text.

Knows the engine's core; leaves out its thread, which adds one wake-up of the network to each step.
"""

import itertools
import time
from pathlib import Path

from model_tools.bench.workload import Prompts
from server.config import SamplingParameters
from server.engine.core import EngineCore
from server.engine.events import Failed, Finished, News
from server.engine.sampling import Sampler
from server.engine.scheduler import PromptBudget
from server.engine.sequence import Sequence
from server.engine.text import IncrementalText
from server.errors import StartError
from server.model.folder import ModelFolder
from server.model.session import OnnxDecoder
from server.model.tokenizer import Tokenizer

GREEDY = SamplingParameters()


class SkiffRunner:
    """Runs workloads of at most `slots` streams of `context` tokens."""

    name = "skiff"

    def __init__(self, folder: Path, *, slots: int, context: int, threads: int) -> None:
        """Raises `StartError`."""
        model = ModelFolder.read(folder)
        if context > model.context_length:
            raise StartError(
                f"{context} tokens are more than the model's context of {model.context_length}"
            )
        self._tokenizer = Tokenizer.read(model.tokenizer_file)
        self._decoder = OnnxDecoder(model, slots=slots, context=context, threads=threads)
        self._core = EngineCore(self._decoder, self._deliver, PromptBudget())
        self._keys = itertools.count()
        self._running = 0

    @property
    def vocabulary_size(self) -> int:
        return self._decoder.vocabulary_size

    def run(self, prompts: Prompts, new_tokens: int) -> float:
        start = time.perf_counter()
        for prompt in prompts:
            self._core.submit(
                Sequence(
                    key=next(self._keys),
                    prompt=prompt,
                    max_tokens=new_tokens,
                    eos_token_ids=frozenset(),
                    sampler=Sampler(GREEDY, prompt),
                    text=IncrementalText(self._tokenizer.decode),
                )
            )
        self._running = len(prompts)
        while self._running:
            self._core.step(_nothing_came)
        seconds = time.perf_counter() - start
        while self._core.busy:  # slots are given back in a step after the last token
            self._core.step(_nothing_came)
        return seconds

    def _deliver(self, events: list[tuple[int, News]]) -> None:
        for _, event in events:
            match event:
                case Failed():
                    raise RuntimeError(event.description)
                case Finished():
                    self._running -= 1


def _nothing_came() -> None:
    """Nobody submits or cancels while a workload runs."""
