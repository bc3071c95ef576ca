"""Runs the clients of a closed loop on the engine's core: without a network, an event loop or other
threads, so that a step takes only what the scheduler and the model take.

Knows the engine's internals, as `engine.skiff_runner` does; does not know HTTP.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from model_tools.bench.engine.skiff_runner import refuse_failures
from model_tools.bench.network.figures import Figures
from model_tools.bench.serve.prompts import Request
from server.config import GAP_STRETCH, EngineConfig, PrefixCacheConfig
from server.engine import sequence as engine
from server.engine.core import EngineCore
from server.engine.events import EngineMessage, Finished, Text
from server.engine.facts import Fact, StepKind, StepTaken
from server.engine.pacer import Pacer
from server.engine.preparation import Preparation
from server.engine.request import GenerationRequest
from server.errors import ClientError, StartError
from server.model.folder import ModelFolder
from server.model.opening import open_cpu_decoder
from server.model.tokenizer import Tokenizer


class InProcess:
    """An engine core configured as that of a server with default flags otherwise."""

    name = "in process"

    def __init__(self, folder: Path, *, slots: int, context: int, threads: int) -> None:
        """Samples greedily. Raises `StartError`."""
        model = ModelFolder.read(folder)
        tokenizer = Tokenizer.read(model.tokenizer_file)
        config = EngineConfig(slots, context, ignore_eos=True)
        decoder = open_cpu_decoder(model, slots=slots, context=context, threads=threads)
        decoder.warm_up()
        self._sampling = replace(model.sampling, temperature=0.0)
        self._steps: list[StepTaken] = []
        self._texts: dict[int, list[float]] = {}
        """By sequence, when it was submitted and then when its text came."""
        self._core = EngineCore(
            decoder, self._deliver, Pacer(GAP_STRETCH), PrefixCacheConfig(), self._observe
        )
        self._preparation = Preparation(tokenizer, config, model.eos_token_ids)
        self._keys = itertools.count()
        self._waiting: Iterator[engine.Sequence] = iter(())
        self._idle = 0
        """Clients without a request in flight."""

    def run(self, requests: Sequence[Request], clients: int) -> Figures:
        """Each client asks, waits for the end of its answer, and asks again."""
        # Before the clock starts: a server tokenises in other threads, beside its steps.
        self._waiting = iter([self._sequence(request) for request in requests])
        self._idle = clients
        self._steps.clear()
        self._texts.clear()
        begin = time.perf_counter()
        self._ask()
        while self._core.busy:
            self._core.step(self._ask)
            self._ask()
        seconds = time.perf_counter() - begin
        return self._figures(sum(request.max_tokens for request in requests) / seconds)

    def _sequence(self, request: Request) -> engine.Sequence:
        """Raises `StartError`."""
        asked = GenerationRequest("", request.prompt, "--words", request.max_tokens, self._sampling)
        try:
            sequence = self._preparation.sequence(next(self._keys), asked, arrived=0)
        except ClientError as error:
            raise StartError(error.sentence) from None
        if sequence.max_tokens < request.max_tokens:
            raise StartError("--words and --new-tokens are more than the context together")
        return sequence

    def _ask(self) -> None:
        """Submits a request for each idle client, while requests are left."""
        for sequence in itertools.islice(self._waiting, self._idle):
            self._idle -= 1
            self._texts[sequence.key] = [time.perf_counter()]
            self._core.submit(sequence)

    def _deliver(self, events: list[tuple[int, EngineMessage]]) -> None:
        now = time.perf_counter()
        refuse_failures(events)
        for key, event in events:
            if isinstance(event, Text) and self._texts[key][-1] != now:
                self._texts[key].append(now)
            self._idle += isinstance(event, Finished)

    def _observe(self, fact: Fact) -> None:
        if isinstance(fact, StepTaken) and fact.kind is StepKind.DECODE:
            self._steps.append(fact)

    def _figures(self, tokens_per_second: float) -> Figures:
        steps, seconds = self._steps, sum(step.seconds for step in self._steps)
        inside = sum(step.runtime_seconds for step in steps)
        gaps = [
            [after - before for before, after in itertools.pairwise(times)]
            for times in self._texts.values()
        ]
        return Figures.of(
            tokens_per_second=tokens_per_second,
            first_tokens=[first for first, *_ in filter(None, gaps)],
            gaps=[gap for _, *later in filter(None, gaps) for gap in later],
            decode_step=seconds / len(steps) if steps else None,
            runtime_share=inside / seconds if steps else None,
        )
