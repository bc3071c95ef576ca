"""`scripts/torture`: attacks a server of its own, on this machine, and prints a scorecard.

Ends with code 1 when a row fails. Needs Linux, whose /proc tells of the server's files and memory.
"""

import argparse
import os
import random
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

from model_tools.default_model import model_folder
from tests.torture.client import Target
from tests.torture.recovery import warm_up
from tests.torture.rows import ROWS, Row, Verdict, judge
from tests.torture.victim import Victim, serving

_QUICK_SECONDS = 15.0


def main() -> None:
    options = _parser().parse_args()
    if sys.platform != "linux":
        sys.exit("torture: needs Linux")
    _open_many_files()
    random.seed(options.seed)
    print(f"seed {options.seed}")
    folder = options.folder or model_folder()
    cores = sorted(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory() as place,
        serving(folder, Path(place, "log"), max(1, len(cores) - 1)) as victim,
    ):
        # One core is ours: what we burn is not to show in what we measure.
        os.sched_setaffinity(0, cores[-1:])
        seconds = _QUICK_SECONDS if options.quick else options.seconds
        try:
            rows = [row for row in ROWS if not options.row or row.name in options.row]
            passed = trio.run(_torture, victim, rows, seconds)
        finally:
            if victim.tracebacks or not victim.alive:
                print(victim.log.read_text(errors="replace"), file=sys.stderr)
    sys.exit(0 if passed else 1)


async def _torture(victim: Victim, rows: Sequence[Row], seconds: float) -> bool:
    """Whether every row passed."""
    baseline = await warm_up(victim, Target(victim.port))
    each = seconds / sum(2 * row.weight for row in rows)
    passed = True
    print(_line("attack", "clients", "songs", "p99 beside", "p99", "ratio", "after it"))
    for row in rows:
        verdict = await judge(row, victim, baseline, each * row.weight)
        print(_shown(verdict), flush=True)
        passed &= verdict.passed
    print(f"open files {baseline.open_files} at first, {victim.open_files} now", end="; ")
    print(f"memory {baseline.memory >> 20} MiB at first, {victim.memory >> 20} now")
    return passed


def _shown(verdict: Verdict) -> str:
    return _line(
        verdict.name,
        str(verdict.count),
        "same" if verdict.same_songs else "CHANGED",
        f"{verdict.beside_p99 * 1000:.1f} ms",
        f"{verdict.p99 * 1000:.1f} ms",
        f"{verdict.ratio:.2f}",
        "; ".join(["recovered"] * (not verdict.wrong) + verdict.wrong + verdict.slow),
    ) + ("" if verdict.passed else "  FAILED")


def _line(name: str, *cells: str) -> str:
    return f"{name:<20}" + "".join(f" {cell:>11}" for cell in cells)


def _open_many_files() -> None:
    """As many as we may: each connection of each attack is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="listen to the canaries for so long in all; the whole takes about twice as long"
        " (default: 60)",
    )
    parser.add_argument("--quick", action="store_true", help=f"--seconds {_QUICK_SECONDS:g}")
    parser.add_argument(
        "--row",
        action="append",
        choices=[row.name for row in ROWS],
        help="do only this one (repeatable)",
    )
    parser.add_argument("--folder", type=Path, help="a model folder (default: the default model)")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(2**32), help="of the random moments"
    )
    return parser


if __name__ == "__main__":
    main()
