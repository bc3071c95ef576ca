"""`skiff-bench engine`: prompt and decode speed of a model folder, in process.

Knows its flags, which are llama-bench's, and its tables.
"""

import argparse
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial

from tqdm import tqdm

from model_tools.bench.engine.genai_runner import GenaiRunner, sweep
from model_tools.bench.engine.measurement import Measurement, measure
from model_tools.bench.engine.own_process import OwnProcess
from model_tools.bench.engine.random_model import random_model
from model_tools.bench.engine.skiff_runner import SkiffRunner
from model_tools.bench.engine.workload import Runner, Workload
from model_tools.bench.flags import (
    add_counts,
    add_folder,
    add_repetitions,
    add_threads,
    count,
    each_once,
    folder_of,
    sampling,
    whole,
)
from model_tools.bench.machine import machine, model
from model_tools.bench.report.report import Cell, Report, Table
from model_tools.bench.report.series import Better, Of, Series
from model_tools.bench.report.spread import Middle, Spread
from server.config import SamplingParameters
from server.errors import StartError
from server.options.engine import MAX_SLOTS


def add_to(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    add_counts(parser, "-p", "--prompt", default=[512], text="prompt lengths to read", or_none=True)
    add_counts(parser, "-n", "--new", default=[128], text="tokens to generate", or_none=True)
    parser.add_argument(
        "-pg",
        "--prompt-and-new",
        metavar="P,N",
        type=_pair,
        action="append",
        default=[],
        help="read P tokens and then generate N; may be given several times",
    )
    parser.add_argument(
        "-d",
        "--depth",
        metavar="N[,N...]",
        type=each_once(whole),
        default=[0],
        help="tokens in the context before the clock starts (default: 0)",
    )
    add_counts(
        parser,
        "-s",
        "--streams",
        default=[1],
        text="sequences that run side by side, in the tests of -n and -pg",
        limit=MAX_SLOTS,
    )
    parser.add_argument(
        "--sampling",
        metavar="'FLAGS'",
        type=sampling,
        default=SamplingParameters(),
        help="sampling flags of skiff, such as --sampling='--temperature 0.8 "
        "--top-k 40' (default: greedy)",
    )
    parser.add_argument(
        "--vocabulary",
        metavar="N",
        type=count,
        help="measure a model of the same shape, with random weights and a vocabulary of N",
    )
    add_repetitions(parser)
    add_threads(parser)
    parser.add_argument(
        "--against",
        choices=["genai"],
        help="also measure ONNX Runtime GenAI (onnxruntime-genai) on the same folder, in turns",
    )
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="also try the other engine with one thread less and without spinning, and use its "
        "fastest setting for each test",
    )


def run(options: argparse.Namespace) -> Report:
    """Raises `StartError`."""
    workloads = _workloads(options)
    if options.against and options.sampling != SamplingParameters():
        raise StartError(f"--sampling: {options.against} is measured greedily")
    if options.sweep and not options.against:
        raise StartError("--sweep: there is no other engine without --against")
    with ExitStack() as stack:
        folder = folder_of(options)
        if options.vocabulary:
            folder = stack.enter_context(random_model(folder, options.vocabulary))
        header = {**machine(), **model(folder), "sampling": _in_words(options.sampling)}
        if options.vocabulary:
            header["shape"] = f"that of {folder_of(options).resolve().name}"
        engine = partial(
            SkiffRunner,
            folder,
            workloads=workloads,
            threads=options.threads,
            sampling=options.sampling,
        )
        skiff = stack.enter_context(OwnProcess(engine))
        header |= skiff.ask("header")
        runners: list[Runner] = [skiff]
        if options.against == "genai":
            peer = partial(sweep if options.sweep else GenaiRunner, folder, threads=options.threads)
            runners.append(stack.enter_context(OwnProcess(peer)))
        measured = _measure(runners, workloads, skiff.ask("vocabulary_size"), options.repetitions)
    tables = (_rates(measured), _split([first for first, *_ in measured]))
    return Report("engine", header, tables, tuple(_series(measured)))


def _measure(
    runners: list[Runner], workloads: list[Workload], vocabulary_size: int, repetitions: int
) -> list[list[Measurement]]:
    total = len(workloads) * len(runners) * (repetitions + 1)
    with tqdm(total=total, unit="run", disable=None) as bar:
        return list(
            measure(
                runners,
                workloads,
                vocabulary_size=vocabulary_size,
                repetitions=repetitions,
                done=bar.update,
            )
        )


def _workloads(options: argparse.Namespace) -> list[Workload]:
    """All tests at one depth, then all at the next, in llama-bench's order. Raises `StartError`."""
    workloads = []
    for depth in options.depth:
        workloads += [Workload(tokens, 0, depth) for tokens in options.prompt]
        for streams in options.streams:
            workloads += [Workload(0, tokens, depth, streams) for tokens in options.new]
            workloads += [
                Workload(read, new, depth, streams) for read, new in options.prompt_and_new
            ]
    if not workloads:
        raise StartError("nothing to measure: -p, -n and -pg name no test")
    if len(set(workloads)) < len(workloads):
        raise StartError("-pg must name each pair once")
    return workloads


def _rates(measured: list[list[Measurement]]) -> Table:
    names = [each.runner for each in measured[0]]
    columns = ["test", *(f"{name} t/s" for name in names)]
    for name in names[1:]:
        columns += [f"skiff / {name}", f"{name}'s setting"]
    rows: list[tuple[Cell, ...]] = []
    for each in measured:
        first, *others = each
        cells: list[Cell] = [first.workload.name]
        cells += [Spread.of(one.rates) for one in each]
        for other in others:
            cells += [Middle.of(first.ratios(other)), other.setting]
        rows.append(tuple(cells))
    return Table("tokens per second", tuple(columns), tuple(rows))


def _series(measured: list[list[Measurement]]) -> Iterator[Series]:
    for one in itertools.chain.from_iterable(measured):
        yield Series(
            test=one.workload.name,
            subject=one.runner,
            measure="t/s",
            better=Better.HIGHER,
            of=Of.ROUND,
            samples=tuple(one.rates),
        )


def _split(measurements: list[Measurement]) -> Table:
    """Where Skiff's time goes."""
    shares = ("ONNX Runtime / all", "sampling / all")
    columns = ("test", "all", "ONNX Runtime", "sampling", "text", "rest", *shares)
    rows = [(each.workload.name, *_shares(each)) for each in measurements]
    return Table("skiff's microseconds per token", columns, tuple(rows))


def _shares(measurement: Measurement) -> list[Cell]:
    splits = [timing.split for timing in measurement.timings if timing.split]
    tokens = measurement.workload.tokens * len(splits)
    seconds = sum(timing.seconds for timing in measurement.timings)
    model, sampling, text = (
        sum(getattr(split, name) for split in splits) for name in ("model", "sampling", "text")
    )
    parts = (seconds, model, sampling, text, seconds - model - sampling - text)
    # With a depth, a part is the difference of two runs, which may be negative.
    shown = [max(part, 0.0) for part in parts]
    return [*(1e6 * part / tokens for part in shown), shown[1] / seconds, shown[2] / seconds]


def _in_words(sampling: SamplingParameters) -> str:
    if not sampling.temperature and sampling.repetition_penalty == 1:
        return "greedy"
    return ", ".join(f"{name} {value}" for name, value in asdict(sampling).items())


def _pair(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"must be two numbers, P,N, not {text[:80]!r}")
    return count(parts[0]), count(parts[1])
