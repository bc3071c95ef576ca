"""`skiff-bench start`: time from the start of a server's process to its first token.

The clock is that of a waiting user: interpreter and imports are included. Knows its flags and its
table.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio
from tqdm import tqdm

from model_tools.bench.flags import add_folder, add_repetitions, folder_of
from model_tools.bench.machine import machine, model
from model_tools.bench.report.report import Report, Table
from model_tools.bench.report.series import Better, Of, Series
from model_tools.bench.report.spread import Middle, Spread
from model_tools.bench.serve.client import exchange
from model_tools.bench.serve.dialect import DIALECTS, TO_THE_LIMIT
from model_tools.bench.serve.prompts import WORDS, Request
from model_tools.bench.serve.reply import Outcome, read_reply
from model_tools.bench.serve.target import Target
from model_tools.bench.server_process import add_flags, server_flags, serving
from server.errors import StartError

REQUEST = Request(" ".join(WORDS[:8]), max_tokens=4, leaves_after=None)
SECONDS = 60
"""Timeout of the first answer."""
POINTS = ("ready", "first token")


def add_to(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    add_repetitions(parser)
    add_flags(parser)


def run(options: argparse.Namespace) -> Report:
    """Raises `StartError`."""
    folder = folder_of(options)
    header = {**machine(), **model(folder), **server_flags(options)}
    rounds = range(options.repetitions + 1)
    with tqdm(rounds, unit="start", disable=None) as bar:
        # The first start fills the disk cache, and is not counted.
        starts = [_start(folder, options.flags) for _ in bar][1:]
    series = tuple(map(_series, POINTS, zip(*starts, strict=True)))
    columns = ("until", "milliseconds", "median (lowest to highest)")
    rows = tuple(
        (each.measure, Spread.of(each.samples), Middle.of(each.samples)) for each in series
    )
    return Report("start", header, (Table("from the start of the process", columns, rows),), series)


def _start(folder: Path, flags: Sequence[str]) -> tuple[float, float]:
    """Milliseconds until each of `POINTS`. Raises `StartError`."""
    with serving(folder, flags) as server:
        target = Target.of(server.url, DIALECTS["paddler"])
        call = target.post(REQUEST, TO_THE_LIMIT)
        ask = partial(exchange, target, call, due=time.perf_counter(), timeout=SECONDS)
        answer = trio.run(ask)
    reply = read_reply(answer, target.dialect, REQUEST.max_tokens)
    if reply.outcome is not Outcome.COMPLETE or not reply.times:
        raise StartError(f"no answer to the first request: {reply.reason}")
    first_token = reply.due + reply.times[0]
    return 1000 * (server.ready - server.started), 1000 * (first_token - server.started)


def _series(point: str, samples: tuple[float, ...]) -> Series:
    return Series("start", "skiff", point, Better.LOWER, Of.ROUND, samples)
