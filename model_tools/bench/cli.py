"""The `skiff-bench` command: runs one mode, then saves, draws and prints its report.

Knows the modes' names; does not know their flags and tables, which each mode has in a module of
its own.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from server import __version__
from server.errors import StartError
from server.interrupt import unwind_at
from server.program import Parser, program

try:
    from model_tools.bench import compare, pace, soak, start, strictness
    from model_tools.bench.engine import batch_command as batch
    from model_tools.bench.engine import command as engine
    from model_tools.bench.network import command as network
    from model_tools.bench.report import plot
    from model_tools.bench.report.formats import FORMATS
    from model_tools.bench.report.report import Report
    from model_tools.bench.report.saved import check_writable, save
    from model_tools.bench.serve import command as serve
    from model_tools.bench.speculate import command as speculate
except ModuleNotFoundError as error:
    sys.exit(f"skiff-bench: {error.name} is missing: pip install 'skiff-llm[bench]'")


_DRAWN = {
    serve: (plot.draw, "draw how latencies are distributed, and throughput over the load"),
    pace: (partial(plot.draw_curve, pace.CURVE), "draw the p99 gap over the time to first token"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; exits with an error message where it cannot."""
    with program("skiff-bench"):
        unwind_at(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        _measure(_parser().parse_args(arguments))


def _measure(options: argparse.Namespace) -> None:
    """Runs the mode. Raises `StartError`."""
    run: Callable[[argparse.Namespace], Report] = options.run
    for file in filter(None, (options.save, options.plot)):
        check_writable(file)
    if options.plot:
        plot.check(options.plot)
    report = run(options)
    try:
        if report.failure:
            raise StartError(report.failure)
        if options.save:
            save(report, options.save)
        if options.plot:
            options.draw(report.series, options.plot)
    finally:  # last, since its reader may have left, but even if nothing can be written
        print(FORMATS[options.output](report), end="", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="skiff-bench",
        description="Measures language models in ONNX Runtime, and servers of any kind.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"skiff-bench {__version__}")
    modes = parser.add_subparsers(metavar="MODE", required=True)
    for name, module, text in (
        ("engine", engine, "prefill and decode speed of a model folder, without a network"),
        ("batch", batch, "many sequences at once, with the columns of llama-batched-bench"),
        ("serve", serve, "latency and throughput of a server, or of two in turns, over HTTP"),
        ("network", network, "the cost of HTTP: the same clients with and without it"),
        ("pace", pace, "gaps of running streams against time to first token, by --gap-stretch"),
        ("start", start, "time from the start of a server's process to its first token"),
        ("soak", soak, "a server's memory while it answers many requests"),
        (
            "http",
            strictness,
            "the cost of strict HTTP and JSON parsing, against h11 and json alone",
        ),
        (
            "speculate",
            speculate,
            "speed with and without --speculate, for editing and free prompts",
        ),
        ("compare", compare, "two saved runs: which figures differ by more than chance"),
    ):
        mode = modes.add_parser(name, help=text, description=f"{text}.", allow_abbrev=False)
        module.add_to(mode)
        draw, drawing = _DRAWN.get(module, (None, ""))
        _add_output(mode, measures=module is not compare, drawing=drawing)
        mode.set_defaults(run=module.run, draw=draw)
    return parser


def _add_output(parser: argparse.ArgumentParser, *, measures: bool, drawing: str) -> None:
    parser.set_defaults(save=None, plot=None)
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o",
        "--output",
        choices=list(FORMATS),
        default="table",
        help="format of the printed report (default: table)",
    )
    if measures:
        group.add_argument(
            "--save", metavar="FILE", type=Path, help="save raw figures as JSON, for compare"
        )
    if drawing:
        group.add_argument("--plot", metavar="FILE", type=Path, help=f"{drawing} (.png, .svg)")
