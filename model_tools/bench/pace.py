"""`skiff-bench pace`: the trade-off that --gap-stretch sets. While streams decode, a long prompt
arrives: how long do their gaps become while it is read, and when does its first token come?

In process, on the engine's core: no network, greedy, prompts of random tokens. Knows its flags and
its table.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from model_tools.bench.engine.skiff_runner import nothing_came, refuse_failures
from model_tools.bench.flags import (
    above_one,
    add_folder,
    add_repetitions,
    add_threads,
    count,
    each_once,
    folder_of,
    up_to,
)
from model_tools.bench.machine import machine, model
from model_tools.bench.report.plot import Curve
from model_tools.bench.report.report import Cell, Report, Table
from model_tools.bench.report.series import Better, Of, Series
from model_tools.bench.report.spread import Middle
from model_tools.bench.turns import in_turn
from server.config import PrefixCacheConfig, PrefixReuse, SamplingParameters
from server.engine.core import EngineCore
from server.engine.events import EngineMessage, Text
from server.engine.pacer import Pacer
from server.engine.sampling import Sampler
from server.engine.sequence import Sequence as EngineSequence
from server.engine.windowed_text import WindowedText
from server.errors import StartError
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder
from server.model.opening import open_cpu_decoder
from server.options.engine import MAX_SLOTS

UNDISTURBED = 100
"""Tokens that each stream generates beside the others before the prompt comes."""
SHORT = 64
"""Tokens of each stream's own prompt."""
STRETCHES = [1.8, 4.0, 6.0]
GAPS, FIRST = "p99 gap / undisturbed", "first token / alone"
CURVE = Curve(across=FIRST, up=GAPS)


def add_to(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    add = parser.add_argument
    add(
        "--stretch",
        metavar="X[,X...]",
        type=each_once(above_one),
        default=STRETCHES,
        help=f"values of --gap-stretch (default: {','.join(f'{each:g}' for each in STRETCHES)})",
    )
    add(
        "--streams",
        metavar="N",
        type=up_to(MAX_SLOTS - 1),
        default=4,
        help="streams that decode while the prompt is read (default: 4)",
    )
    add(
        "--prompt",
        metavar="TOKENS",
        type=count,
        default=2000,
        help="length of the prompt (default: 2000)",
    )
    add_repetitions(parser)
    add_threads(parser)


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds of one repetition."""

    gaps: list[float]
    """Between tokens of the streams, before the prompt comes."""
    disturbed: list[float]
    """The same while the prompt is read."""
    alone: float
    """To the prompt's first token, without streams."""
    beside: float
    """The same, beside the streams."""

    @property
    def p99(self) -> float:
        return float(np.quantile(self.disturbed, 0.99))

    @property
    def gaps_ratio(self) -> float:
        return self.p99 / statistics.median(self.gaps)

    @property
    def first_ratio(self) -> float:
        return self.beside / self.alone


def run(options: argparse.Namespace) -> Report:
    """Raises `StartError`."""
    folder = folder_of(options)
    opened = ModelFolder.read(folder)
    if options.prompt + SHORT > opened.context_length:
        raise StartError(f"--prompt: the model's context has {opened.context_length} tokens")
    decoder = open_cpu_decoder(
        opened,
        slots=options.streams + 1,
        context=opened.context_length,
        threads=options.threads,
    )
    decoder.warm_up()
    measured = _measure(decoder, options)
    columns = ("stretch", "gap", "beside the prompt", "p99", GAPS, "first token", "beside", FIRST)
    title = f"{options.streams} streams and a prompt of {options.prompt} tokens, milliseconds"
    rows = tuple(_row(stretch, runs) for stretch, runs in measured.items())
    header = {**machine(), **model(folder), "threads": str(options.threads)}
    return Report("pace", header, (Table(title, columns, rows),), tuple(_series(measured)))


def _measure(decoder: CpuDecoder, options: argparse.Namespace) -> dict[float, list[Figures]]:
    """Figures by stretch. The stretches take turns in each repetition, after one run to warm up."""
    measured: dict[float, list[Figures]] = {stretch: [] for stretch in options.stretch}
    total = 1 + options.repetitions * len(measured)
    with tqdm(total=total, unit="run", disable=None) as bar:
        _repetition(decoder, options.stretch[0], options.streams, options.prompt)
        bar.update()
        for repetition in range(options.repetitions):
            for stretch in in_turn(repetition, options.stretch):
                figures = _repetition(decoder, stretch, options.streams, options.prompt)
                measured[stretch].append(figures)
                bar.update()
    return measured


def _repetition(decoder: CpuDecoder, stretch: float, streams: int, prompt: int) -> Figures:
    """Raises `StartError` if a stream fills its context before the prompt is read."""
    run = _Run(decoder, stretch)
    run.first_token(SHORT)
    alone = run.first_token(prompt)
    keys = [run.submit(SHORT, decoder.context) for _ in range(streams)]
    run.until(keys[-1], 1)
    all_run = time.perf_counter()
    run.until(keys[-1], UNDISTURBED)
    begun = time.perf_counter()
    beside = run.first_token(prompt)
    run.end()
    if any(SHORT + len(run.times[key]) >= decoder.context for key in keys):
        raise StartError("--prompt: streams filled their context before it was read")
    pairs = [pair for key in keys for pair in itertools.pairwise(run.times[key])]
    gaps = [later - earlier for earlier, later in pairs if all_run < earlier and later < begun]
    disturbed = [later - earlier for earlier, later in pairs if later > begun]
    return Figures(gaps, disturbed, alone, beside)


class _Run:
    """Streams without an end of text, and the times at which their tokens came."""

    def __init__(self, decoder: CpuDecoder, stretch: float) -> None:
        self._decoder = decoder
        reuse = PrefixCacheConfig(PrefixReuse.OFF)
        self._core = EngineCore(decoder, self._deliver, Pacer(stretch), reuse)
        self._keys = itertools.count()
        self._random = np.random.default_rng(0)
        self.times: dict[int, list[float]] = {}

    def submit(self, prompt_tokens: int, max_tokens: int) -> int:
        key = next(self._keys)
        prompt = self._random.integers(0, self._decoder.vocabulary_size, prompt_tokens)
        sampler = Sampler(SamplingParameters(), prompt)
        text = WindowedText(lambda tokens: "." * len(tokens))
        max_tokens = min(max_tokens, self._decoder.context - prompt_tokens)
        self._core.submit(EngineSequence(key, prompt, max_tokens, frozenset(), sampler, text))
        self.times[key] = []
        return key

    def until(self, key: int, tokens: int) -> None:
        """Steps until the sequence has so many tokens. Raises `StartError` if it ends before."""
        while len(self.times[key]) < tokens:
            if not self._core.busy:
                raise StartError(f"the model's context of {self._decoder.context} tokens is full")
            self._core.step(nothing_came)

    def end(self) -> None:
        for key in self.times:
            self._core.cancel(key)
        while self._core.busy:
            self._core.step(nothing_came)

    def first_token(self, prompt_tokens: int) -> float:
        start = time.perf_counter()
        key = self.submit(prompt_tokens, max_tokens=1)
        self.until(key, 1)
        return self.times[key][0] - start

    def _deliver(self, events: list[tuple[int, EngineMessage]]) -> None:
        now = time.perf_counter()
        refuse_failures(events)
        for key, event in events:
            if isinstance(event, Text):
                self.times[key].append(now)


def _row(stretch: float, runs: Sequence[Figures]) -> tuple[Cell, ...]:
    """Medians of the repetitions."""
    return (
        f"{stretch:g}",
        1000 * statistics.median(statistics.median(each.gaps) for each in runs),
        1000 * statistics.median(statistics.median(each.disturbed) for each in runs),
        1000 * statistics.median(each.p99 for each in runs),
        Middle.of([each.gaps_ratio for each in runs]),
        1000 * statistics.median(each.alone for each in runs),
        1000 * statistics.median(each.beside for each in runs),
        Middle.of([each.first_ratio for each in runs]),
    )


def _series(measured: dict[float, list[Figures]]) -> Iterator[Series]:
    for stretch, runs in measured.items():
        for measure, samples in (
            (GAPS, tuple(each.gaps_ratio for each in runs)),
            (FIRST, tuple(each.first_ratio for each in runs)),
        ):
            name = f"stretch {stretch:g}"
            yield Series(name, "skiff", measure, Better.LOWER, Of.ROUND, samples, stretch)
