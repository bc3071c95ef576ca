"""`skiff-bench soak`: a server's memory while it answers many requests.

Knows its flags and its tables.
"""

import argparse
import time

import numpy as np
from tqdm import tqdm

from model_tools.bench.flags import add_folder, add_lengths, count, folder_of, not_negative, up_to
from model_tools.bench.machine import machine, model
from model_tools.bench.report.report import Report, Table
from model_tools.bench.report.series import Better, Of, Series
from model_tools.bench.serve.dialect import DIALECTS, TO_THE_LIMIT
from model_tools.bench.serve.load import ClosedLoop
from model_tools.bench.serve.prompts import Lengths, Mix
from model_tools.bench.serve.result import failure
from model_tools.bench.serve.session import Plan
from model_tools.bench.serve.session import run as run_session
from model_tools.bench.serve.tables import requests_table
from model_tools.bench.serve.target import Target
from model_tools.bench.server_process import ServerProcess, add_flags, server_flags, serving
from server.options.engine import MAX_SLOTS

ROUNDS = 20
"""Memory is noted after each, while nothing runs."""
LEAVING = 0.05
"""Share of clients that leave early: cancellation takes another path through the server."""
SECONDS = 60
"""Timeout of one answer."""
MB = 1e6


def add_to(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    parser.add_argument(
        "--requests",
        metavar="N",
        type=count,
        default=2000,
        help=f"requests in all, spread over {ROUNDS} rounds (default: 2000)",
    )
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=up_to(MAX_SLOTS),
        default=8,
        help="clients at once, and slots of the server (default: 8)",
    )
    add_lengths(parser, words=Lengths(4, 64), new_tokens=Lengths(1, 16))
    parser.add_argument(
        "--rest",
        metavar="SECONDS",
        type=not_negative,
        default=2,
        help="pause after each round before memory is noted (default: 2)",
    )
    add_flags(parser)


def run(options: argparse.Namespace) -> Report:
    """Raises `StartError`."""
    folder = folder_of(options)
    header = {**machine(), **model(folder), **server_flags(options)}
    with serving(folder, [f"--slots={options.concurrency}", *options.flags]) as server:
        memory = [_memory(server)]
        plan = Plan(
            targets=(Target.of(server.url, DIALECTS["paddler"], "skiff"),),
            loads=(ClosedLoop(options.concurrency),),
            mix=Mix(options.words, options.new_tokens, shared_words=0, leaving=LEAVING),
            settings=TO_THE_LIMIT,
            requests=-(-options.requests // ROUNDS),
            rounds=ROUNDS,
            warm_up=0,
            timeout=SECONDS,
            seed=0,
        )
        with tqdm(total=ROUNDS, unit="round", disable=None) as bar:

            def note() -> None:
                time.sleep(options.rest)
                memory.append(_memory(server))
                bar.update()

            findings = run_session(plan, note)
    late = memory[ROUNDS // 2 :]
    kind = "proportional" if "proportional" in late[0] else "resident"
    # A single figure: readings of one process depend on each other, and are no repetitions.
    mean = float(np.mean([each[kind] for each in late]))
    series = Series("soak", "skiff", f"{kind} MB", Better.LOWER, Of.ROUND, (mean,))
    tables = (
        requests_table([findings.results]),
        _course(memory, plan.requests),
        _growth(late, plan.requests),
    )
    return Report("soak", header, tables, (series,), failure(findings.results))


def _memory(server: ServerProcess) -> dict[str, float]:
    """MB of memory by kind; only those that the system reports."""
    kinds = {
        "resident": server.resident_bytes,
        "proportional": server.proportional_bytes,
        "anonymous": server.anonymous_bytes,
    }
    return {kind: size / MB for kind, size in kinds.items() if size is not None}


def _course(memory: list[dict[str, float]], requests: int) -> Table:
    columns = ("after requests", *(f"{kind} MB" for kind in memory[0]))
    rows = tuple((number * requests, *each.values()) for number, each in enumerate(memory))
    return Table("memory", columns, rows)


def _growth(late: list[dict[str, float]], requests: int) -> Table:
    """Growth is the slope of a least-squares line: single figures depend on what ran last."""
    rows = []
    for kind in late[0]:
        course = [each[kind] for each in late]
        slope = float(np.polyfit(np.arange(len(course)), course, 1)[0])
        rows.append((kind, max(course), 1000 * slope / requests))
    columns = ("memory", "largest MB", "MB growth per 1,000 requests")
    return Table("second half", columns, tuple(rows))
