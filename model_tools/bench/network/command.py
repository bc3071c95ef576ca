"""`skiff-bench network`: the cost of HTTP, JSON and the event loop on top of the engine.

The same clients send the same prompts, in turns to the engine's core in a process of its own and
over HTTP to a server. Knows its flags and its table.
"""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from tqdm import tqdm

from model_tools.bench.engine.own_process import OwnProcess
from model_tools.bench.flags import (
    add_concurrency,
    add_folder,
    add_lengths,
    add_repetitions,
    count,
    folder_of,
)
from model_tools.bench.machine import machine, model
from model_tools.bench.network.figures import FIGURES, Figure, Figures
from model_tools.bench.network.in_process import InProcess
from model_tools.bench.network.over_http import over_http
from model_tools.bench.report.report import Cell, Report, Table
from model_tools.bench.report.series import Of, Series
from model_tools.bench.report.spread import Middle
from model_tools.bench.serve.dialect import DIALECTS, TO_THE_LIMIT
from model_tools.bench.serve.load import ClosedLoop
from model_tools.bench.serve.prompts import Lengths, Mix
from model_tools.bench.serve.session import Plan
from model_tools.bench.serve.target import Target
from model_tools.bench.server_process import serving
from model_tools.bench.turns import in_turn
from server.app import LARGEST_DEFAULT_CONTEXT
from server.cores import usable_cores
from server.model.folder import ModelFolder
from server.options.engine import MAX_SLOTS

SECONDS = 120
"""Timeout of one answer."""
WAYS = (InProcess.name, "over HTTP")
Round = tuple[Figures, Figures]
"""Figures of each way in `WAYS`, for the same prompts."""


def add_to(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    add_concurrency(parser, default=[1, 8], limit=MAX_SLOTS)
    parser.add_argument(
        "--requests",
        metavar="N",
        type=count,
        default=24,
        help="requests in each round (default: 24)",
    )
    add_lengths(parser, words=Lengths(128, 128), new_tokens=Lengths(96, 96))
    add_repetitions(parser)


def run(options: argparse.Namespace) -> Report:
    """Raises `StartError`."""
    folder = folder_of(options)
    context = min(ModelFolder.read(folder).context_length, LARGEST_DEFAULT_CONTEXT)
    settings = {"slots": max(options.concurrency), "context": context, "threads": usable_cores()}
    make = partial(InProcess, folder, **settings)
    with ExitStack() as stack:
        engine = stack.enter_context(OwnProcess(make))
        flags = [f"--{name}={value}" for name, value in settings.items()]
        flags += ["--device=cpu", "--temperature=0"]
        server = stack.enter_context(serving(folder, flags))
        measured = _measure(options, engine, Target.of(server.url, DIALECTS["paddler"], "skiff"))
    rows = tuple(row for load, rounds in measured for row in _rows(load, rounds))
    series = tuple(one for load, rounds in measured for one in _series(load, rounds))
    columns = ("load", "figure", *WAYS, f"{WAYS[1]} / {WAYS[0]}")
    title = f"the same clients, medians of {options.repetitions} rounds"
    header = {
        **machine(),
        **model(folder),
        **{name: str(value) for name, value in settings.items()},
        "requests": f"{options.requests} in each round, of {options.words} words, unique",
        "answers": f"{options.new_tokens} tokens, greedy, end of text ignored",
    }
    return Report("network", header, (Table(title, columns, rows),), series)


def _measure(
    options: argparse.Namespace, engine: OwnProcess, target: Target
) -> list[tuple[ClosedLoop, list[Round]]]:
    """Runs each load once to warm up and then timed, both ways in turns."""
    measured = []
    total = len(options.concurrency) * (options.repetitions + 1)
    with tqdm(total=total, unit="round", disable=None) as bar:
        for clients in options.concurrency:
            load = ClosedLoop(clients)
            rounds: list[Round] = []
            for number in range(options.repetitions + 1):
                plan = _plan(options, target, load, number)
                requests = plan.mix.requests(plan.requests, plan.seed_of(load, 0))
                ways = (partial(engine.run, "run", requests, clients), partial(over_http, plan))
                figures = {way: ways[way]() for way in in_turn(number, (0, 1))}
                rounds.append((figures[0], figures[1]))
                bar.update()
            measured.append((load, rounds[1:]))
    return measured


def _plan(options: argparse.Namespace, target: Target, load: ClosedLoop, number: int) -> Plan:
    return Plan(
        targets=(target,),
        loads=(load,),
        mix=Mix(options.words, options.new_tokens, shared_words=0, leaving=0.0),
        settings=TO_THE_LIMIT,
        requests=options.requests,
        rounds=1,
        warm_up=0,
        timeout=SECONDS,
        seed=number,
    )


def _rows(load: ClosedLoop, rounds: list[Round]) -> Iterator[tuple[Cell, ...]]:
    for figure, columns in _by_figure(rounds):
        ratios = [after / before for before, after in zip(*columns, strict=True)]
        yield (load.name, figure.title, *map(Middle.of, columns), Middle.of(ratios))


def _series(load: ClosedLoop, rounds: list[Round]) -> Iterator[Series]:
    for figure, columns in _by_figure(rounds):
        for way, samples in zip(WAYS, columns, strict=True):
            yield Series(load.name, way, figure.title, figure.better, Of.ROUND, samples, load.size)


def _by_figure(rounds: list[Round]) -> Iterator[tuple[Figure, list[tuple[float, ...]]]]:
    for figure in FIGURES:
        yield figure, [tuple(map(figure.of, way)) for way in zip(*rounds, strict=True)]
