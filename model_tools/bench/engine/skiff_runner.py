"""Runs workloads on Skiff's engine: whole steps, from the scheduler's plan to text.

Knows the engine's internals; does not know its thread, which adds one wake-up of the network's
thread to each step. Sampling and text are timed in wrappers that the core is given, so that the
engine itself needs no clocks for them.
"""

import itertools
import time
from pathlib import Path

from model_tools.bench.engine.workload import Prompts, Split, Timing, Workload
from server.config import GAP_STRETCH, PrefixCacheConfig, PrefixReuse, SamplingParameters
from server.engine.core import EngineCore
from server.engine.distribution import Row
from server.engine.events import EngineMessage, Failed
from server.engine.pace import MIN_TOKENS
from server.engine.pacer import Pacer
from server.engine.sampling import Sampler
from server.engine.sequence import Sequence
from server.engine.text import IncrementalText, incremental_text
from server.errors import StartError
from server.model.folder import ModelFolder
from server.model.opening import open_cpu_decoder
from server.model.tensor_types import Tokens
from server.model.tokenizer import Tokenizer


class Stopwatch:
    """Adds up the time spent in its `with` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start


class TimedSampler(Sampler):
    def __init__(self, parameters: SamplingParameters, prompt: Tokens, watch: Stopwatch) -> None:
        super().__init__(parameters, prompt)
        self._watch = watch

    def choose(self, row: Row) -> int | None:
        with self._watch:
            return super().choose(row)


class TimedText:
    def __init__(self, text: IncrementalText, watch: Stopwatch) -> None:
        self._text = text
        self._watch = watch

    def push(self, token: int) -> str:
        with self._watch:
            return self._text.push(token)

    def flush(self) -> str:
        with self._watch:
            return self._text.flush()


class SkiffRunner:
    """A model on the CPU with its own engine core, which runs one workload at a time."""

    name = "skiff"

    def __init__(
        self,
        folder: Path,
        *,
        workloads: list[Workload],
        threads: int,
        sampling: SamplingParameters | None = None,
        reuse: PrefixReuse = PrefixReuse.OFF,
    ) -> None:
        """Reserves slots and context for the largest of the workloads. Samples greedily unless
        `sampling` is given. Raises `StartError`."""
        model = ModelFolder.read(folder)
        longest = max(workload.context for workload in workloads)
        if longest > model.context_length:
            raise StartError(
                f"{longest} tokens are more than the model's context of {model.context_length}"
            )
        self.setting = f"{threads} threads"
        self._threads = threads
        self._parameters = sampling or SamplingParameters()
        self._tokenizer = Tokenizer.read(model.tokenizer_file)
        self._context = min(max(map(_room, workloads)), model.context_length)
        slots = max(workload.streams for workload in workloads)
        self._decoder = open_cpu_decoder(
            model,
            slots=slots,
            context=self._context,
            threads=threads,
        )
        self._decoder.warm_up()
        pacer, reused = Pacer(GAP_STRETCH), PrefixCacheConfig(reuse)
        self._core = EngineCore(self._decoder, refuse_failures, pacer, reused)
        self._sampling, self._text = Stopwatch(), Stopwatch()
        self._keys = itertools.count()

    @property
    def vocabulary_size(self) -> int:
        return self._decoder.vocabulary_size

    @property
    def header(self) -> dict[str, str]:
        """Entries for a report's header."""
        return {"provider": "CPUExecutionProvider", "threads": str(self._threads)}

    def read(self, prompts: Prompts, new_tokens: int) -> Timing:
        begin, split = time.perf_counter(), self._split()
        sequences = [self._submit(prompt, new_tokens) for prompt in prompts]
        while not all(sequence.ended for sequence in sequences):
            self._core.step(nothing_came)
        timing = Timing(time.perf_counter() - begin, self._split() - split)
        self._drain()
        return timing

    def generate(self, prompts: Prompts, new_tokens: int) -> Timing:
        limit = self._context - prompts.shape[1]
        sequences = [self._submit(prompt, limit) for prompt in prompts]
        while not all(sequence.generated for sequence in sequences):
            self._core.step(nothing_came)
        begin, split = time.perf_counter(), self._split()
        for _ in range(new_tokens):
            self._core.step(nothing_came)
        timing = Timing(time.perf_counter() - begin, self._split() - split)
        if any(len(sequence.generated) <= new_tokens for sequence in sequences):
            raise StartError("a stream ended before the last one began: fewer streams, please")
        for sequence in sequences:
            self._core.cancel(sequence.key)
        self._drain()
        return timing

    def _submit(self, prompt: Tokens, max_tokens: int) -> Sequence:
        sequence = Sequence(
            key=next(self._keys),
            prompt=prompt,
            max_tokens=max_tokens,
            eos_token_ids=frozenset(),
            sampler=TimedSampler(self._parameters, prompt, self._sampling),
            text=TimedText(incremental_text(self._tokenizer), self._text),
        )
        self._core.submit(sequence)
        return sequence

    def _drain(self) -> None:
        """Steps until the core is idle: slots are released in a step after the last token."""
        while self._core.busy:
            self._core.step(nothing_came)

    def _split(self) -> Split:
        """Seconds spent so far."""
        return Split(self._decoder.runtime_seconds, self._sampling.seconds, self._text.seconds)


def refuse_failures(events: list[tuple[int, EngineMessage]]) -> None:
    """Receives what an engine's core delivers. Raises `StartError` if a sequence has failed."""
    for _, event in events:
        if isinstance(event, Failed):
            raise StartError(event.description)


def _room(workload: Workload) -> int:
    """Context, in tokens, of the stream that starts first and decodes while the other prompts are
    read."""
    others = workload.streams - 1
    return workload.context + others * (workload.given // MIN_TOKENS + 1)


def nothing_came() -> None:
    """Stands in for the engine's inbox: nothing is submitted or cancelled during a workload."""
