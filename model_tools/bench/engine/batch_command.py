"""`skiff-bench batch`: many sequences at once in process, with llama-batched-bench's columns.

Knows its flags and its table.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from model_tools.bench.engine.skiff_runner import SkiffRunner
from model_tools.bench.engine.workload import Workload
from model_tools.bench.flags import (
    add_counts,
    add_folder,
    add_repetitions,
    add_threads,
    folder_of,
)
from model_tools.bench.machine import machine, model
from model_tools.bench.report.report import Cell, Report, Table
from model_tools.bench.report.series import Better, Of, Series
from model_tools.bench.report.spread import Spread
from server.config import PrefixReuse
from server.options.engine import MAX_SLOTS


def add_to(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    add_counts(parser, "-npp", "--prompt", default=[128], text="lengths of the prompts")
    add_counts(parser, "-ntg", "--new", default=[128], text="tokens to generate after each")
    add_counts(
        parser,
        "-npl",
        "--parallel",
        default=[1, 2, 4, 8],
        text="sequences at once",
        limit=MAX_SLOTS,
    )
    parser.add_argument(
        "-pps",
        "--prompt-shared",
        action="store_true",
        help="all sequences have the same prompt (default: each has its own)",
    )
    add_repetitions(parser)
    add_threads(parser)


@dataclass(frozen=True, slots=True)
class Batch:
    """`workload.streams` sequences side by side, each with a prompt and new tokens."""

    workload: Workload
    shared: bool
    """All sequences have the same prompt."""

    @property
    def name(self) -> str:
        return self.workload.name + (" shared" if self.shared else "")

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts together; a shared prompt counts once."""
        return self.workload.prompt_tokens * (1 if self.shared else self.workload.streams)

    @property
    def new_tokens(self) -> int:
        return self.workload.new_tokens * self.workload.streams

    def times(self, runner: SkiffRunner, seed: int) -> tuple[float, float]:
        """Seconds to read all prompts, and to generate all new tokens once every sequence runs."""
        prompts = self.workload.prompts(runner.vocabulary_size, seed)
        if self.shared:
            prompts[:] = prompts[0]
        read = runner.read(prompts, 1).seconds
        return read, runner.generate(prompts, self.workload.new_tokens).seconds


@dataclass(frozen=True, slots=True)
class Measured:
    batch: Batch
    times: tuple[tuple[float, float], ...]
    """For each repetition, seconds for prompts and seconds for new tokens."""

    @property
    def reading(self) -> list[float]:
        """Prompt tokens per second of each repetition."""
        return [self.batch.prompt_tokens / read for read, _ in self.times]

    @property
    def generating(self) -> list[float]:
        """New tokens per second of each repetition."""
        return [self.batch.new_tokens / generated for _, generated in self.times]

    @property
    def row(self) -> tuple[Cell, ...]:
        workload = self.batch.workload
        tokens = self.batch.prompt_tokens + self.batch.new_tokens
        read, generated = (float(each) for each in np.mean(self.times, axis=0))
        return (
            *(workload.prompt_tokens, workload.new_tokens, workload.streams, tokens),
            *(read, Spread.of(self.reading), generated, Spread.of(self.generating)),
            *(read + generated, tokens / (read + generated)),
        )

    @property
    def series(self) -> Iterator[Series]:
        name, at = self.batch.name, float(self.batch.workload.streams)
        for measure, rates in (("S_PP", self.reading), ("S_TG", self.generating)):
            yield Series(name, "skiff", measure, Better.HIGHER, Of.ROUND, tuple(rates), at)


def run(options: argparse.Namespace) -> Report:
    """Raises `StartError`."""
    batches = [
        Batch(Workload(prompt, new, streams=streams), options.prompt_shared)
        for prompt in options.prompt
        for new in options.new
        for streams in options.parallel
    ]
    folder = folder_of(options)
    workloads = [batch.workload for batch in batches]
    runner = SkiffRunner(
        folder,
        workloads=workloads,
        threads=options.threads,
        reuse=PrefixReuse.PROMPTS,
    )
    measured = _measure(runner, batches, options.repetitions)
    columns = ("PP", "TG", "B", "N_KV", "T_PP s", "S_PP t/s", "T_TG s", "S_TG t/s", "T s", "S t/s")
    shared = "one prompt for all" if options.prompt_shared else "a prompt for each"
    return Report(
        "batch",
        {**machine(), **model(folder), **runner.header},
        (Table(f"sequences at once, {shared}", columns, tuple(each.row for each in measured)),),
        tuple(series for each in measured for series in each.series),
    )


def _measure(runner: SkiffRunner, batches: list[Batch], repetitions: int) -> list[Measured]:
    """Runs each batch once to warm up and then timed, with new prompts each time."""
    measured = []
    with tqdm(total=len(batches) * (repetitions + 1), unit="run", disable=None) as bar:
        for number, batch in enumerate(batches):
            times = []
            for repetition in range(repetitions + 1):
                times.append(batch.times(runner, number * (repetitions + 1) + repetition))
                bar.update()
            measured.append(Measured(batch, tuple(times[1:])))
    return measured
