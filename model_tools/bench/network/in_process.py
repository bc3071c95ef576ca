"""The clients of a closed loop at the engine's core itself: no network, no event loop and no other
thread, so that a step is what the scheduler and the model make of it.

Knows the engine's inside, as `engine.skiff_runner` does.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from model_tools.bench.network.figures import Figures
from model_tools.bench.serve.prompts import Request
from server.config import GAP_STRETCH, EngineConfig, PrefixCacheConfig, SamplingParameters
from server.cores import usable_cores
from server.engine import sequence as engine
from server.engine.core import EngineCore
from server.engine.events import Failed, Finished, News
from server.engine.facts import Fact, PromptRead, StepKind, StepTaken
from server.engine.pacer import Pacer
from server.engine.preparation import Preparation
from server.engine.request import GenerationRequest
from server.model.folder import ModelFolder
from server.model.opening import open_cpu_decoder
from server.model.tokenizer import Tokenizer


class InProcess:
    """An engine as a server has it that is told nothing else."""

    name = "in process"

    def __init__(self, folder: Path, *, slots: int, context: int) -> None:
        """Raises `StartError`."""
        model = ModelFolder.read(folder)
        tokenizer = Tokenizer.read(model.tokenizer_file)
        config = EngineConfig(slots, context, ignore_eos=True)
        decoder = open_cpu_decoder(model, slots=slots, context=context, threads=usable_cores())
        self._facts: list[Fact] = []
        self._core = EngineCore(
            decoder, self._deliver, Pacer(GAP_STRETCH), PrefixCacheConfig(), self._facts.append
        )
        self._preparation = Preparation(tokenizer, config, model.eos_token_ids)
        self._keys = itertools.count()
        self._waiting: Iterator[engine.Sequence] = iter(())
        self._idle = 0
        """Clients that wait for no answer."""

    def run(self, requests: Sequence[Request], clients: int) -> Figures:
        """Each client asks, waits for the end of its answer, and asks again."""
        # A server turns prompts into tokens beside its steps, in threads of their own.
        self._waiting = iter([self._sequence(request) for request in requests])
        self._idle = clients
        self._facts.clear()
        begin = time.perf_counter()
        self._ask()
        while self._core.busy:
            self._core.step(self._ask)
            self._ask()
        seconds = time.perf_counter() - begin
        return self._figures(sum(request.max_tokens for request in requests) / seconds)

    def _sequence(self, request: Request) -> engine.Sequence:
        asked = GenerationRequest("", request.prompt, "prompt", request.max_tokens, _GREEDY)
        return self._preparation.sequence(next(self._keys), asked, arrived=0)

    def _ask(self) -> None:
        """Whoever is idle, as long as there is something to ask."""
        for sequence in itertools.islice(self._waiting, self._idle):
            self._idle -= 1
            sequence.arrived = time.perf_counter()
            self._core.submit(sequence)

    def _deliver(self, events: list[tuple[int, News]]) -> None:
        for _, event in events:
            if isinstance(event, Failed):
                raise RuntimeError(event.description)  # noqa: TRY004 no type is wrong
            self._idle += isinstance(event, Finished)

    def _figures(self, tokens_per_second: float) -> Figures:
        steps = [fact for fact in self._facts if isinstance(fact, StepTaken)]
        first = [fact for fact in self._facts if isinstance(fact, PromptRead)]
        decode = [step for step in steps if step.kind is StepKind.DECODE]
        seconds = sum(step.seconds for step in decode)
        inside = sum(step.runtime_seconds for step in decode)
        return Figures.of(
            tokens_per_second=tokens_per_second,
            first_tokens=[fact.queue_seconds + fact.prefill_seconds for fact in first],
            gaps=[gap for step in steps for gap, count in step.gaps.items() for _ in range(count)],
            decode_step=seconds / len(decode) if decode else None,
            runtime_share=inside / seconds if decode else None,
        )


_GREEDY = SamplingParameters()
