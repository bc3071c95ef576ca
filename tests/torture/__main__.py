"""`scripts/torture`: attacks a server of its own, on this machine, and prints a scorecard.

Ends with code 1 when a row fails. Needs Linux, whose /proc tells of the server's files and memory.
"""

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

from model_tools.bench.flags import count
from model_tools.default_model import model_folder
from server.errors import StartError
from server.interrupt import unwind_at
from server.program import Parser, program
from tests.torture.choir import Choir, choir
from tests.torture.client import Target
from tests.torture.recovery import warm_up
from tests.torture.rows import ROWS, Row
from tests.torture.verdict import Verdict, judge
from tests.torture.victim import Victim, serving

_COLUMNS = ("clients", "songs", "p99 beside", "p99", "ratio", "loop beside", "loop")
"""The last two are the share of a core that the server's event loop took."""


def main() -> None:
    with program("torture"):
        unwind_at(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        sys.exit(0 if _run(_parser().parse_args()) else 1)


def _run(options: argparse.Namespace) -> bool:
    """Whether every row passed. Raises `StartError`."""
    if sys.platform != "linux":
        raise StartError("needs Linux")
    random.seed(options.seed)
    print(f"seed {options.seed}")
    folder = options.folder or model_folder()
    threads = max(1, len(os.sched_getaffinity(0)) - 1)
    rows = [row for row in ROWS if not options.row or row.name in options.row]
    with (
        tempfile.TemporaryDirectory() as place,
        serving(folder, Path(place), threads) as victim,
        choir() as canaries,
    ):
        _open_many_files()
        # Attackers' CPU time must not disturb the canaries, only the server's work for them may.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        try:
            return trio.run(_torture, victim, canaries, rows, options.pairs)
        finally:
            if victim.tracebacks or not victim.alive:
                print(victim.log.read_text(errors="replace"), file=sys.stderr)


async def _torture(victim: Victim, canaries: Choir, rows: Sequence[Row], pairs: int) -> bool:
    """Whether every row passed."""
    baseline = await warm_up(victim, Target(victim.port))
    passed = True
    print(_line("attack", *_COLUMNS, "after it"))
    for row in rows:
        verdict = await judge(row, victim, canaries, baseline, pairs)
        print(_shown(verdict), flush=True)
        passed &= verdict.passed
        if not victim.alive:
            return False
    print(f"open files {baseline.open_files} at first, {victim.open_files} now", end="; ")
    print(f"memory {baseline.memory >> 20} MiB at first, {victim.memory >> 20} now")
    return passed


def _shown(verdict: Verdict) -> str:
    cells = _line(
        verdict.name,
        str(verdict.count),
        "same" if verdict.same_songs else "CHANGED",
        f"{verdict.beside.p99 * 1000:.1f} ms",
        f"{verdict.attacked.p99 * 1000:.1f} ms",
        f"{verdict.ratio:.2f}",
        f"{verdict.beside.load:.0%}",
        f"{verdict.attacked.load:.0%}",
    )
    after = "; ".join([*verdict.wrong, *verdict.slow]) or "recovered"
    return f"{cells}  {after}" + ("" if verdict.passed else "  FAILED")


def _line(name: str, *cells: str) -> str:
    return f"{name:<20}" + "".join(f" {cell:>11}" for cell in cells)


def _open_many_files() -> None:
    """Raise the limit of open files: each connection of each attack is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="scripts/torture", description=__doc__)
    parser.add_argument(
        "--pairs",
        type=count,
        default=5,
        help="listen to the canaries so many times beside each attack, and as many without it"
        " (default: 5)",
    )
    parser.add_argument(
        "--row",
        action="append",
        choices=[row.name for row in ROWS],
        help="do only this one (repeatable)",
    )
    parser.add_argument("--folder", type=Path, help="a model folder (default: the default model)")
    parser.add_argument(
        "--seed",
        type=int,
        default=random.randrange(2**32),
        help="seed of the random moments (default: another in each run)",
    )
    return parser


if __name__ == "__main__":
    main()
