"""The `skiff-bench` command: argv to one of its modes, the report to where it is wanted.

Knows the modes' names; each has its flags and its tables in a package of its own.
"""

import argparse
import os
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
    from model_tools.bench.report.saved import save
    from model_tools.bench.serve import command as serve
    from model_tools.bench.speculate import command as speculate
except ModuleNotFoundError as error:
    sys.exit(f"skiff-bench: {error.name} is missing: pip install 'skiff-llm[bench]'")


_DRAWN = {
    serve: (plot.draw, "draw how latencies are distributed, and throughput over the load"),
    pace: (partial(plot.draw_curve, pace.CURVE), "draw one over the other"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; ends the process where it cannot."""
    with program("skiff-bench"):
        unwind_at(signal.SIGINT)
        _measure(_parser().parse_args(arguments))


def _measure(options: argparse.Namespace) -> None:
    """Runs the mode. Raises `StartError`."""
    run: Callable[[argparse.Namespace], Report] = options.run
    for file in filter(None, (options.save, options.plot)):  # before an hour is spent on measuring
        if not file.parent.is_dir():
            raise StartError(f"{file}: no such folder")
        if file.is_dir():
            raise StartError(f"{file}: is a folder")
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise StartError(f"{file}: may not be written")
    if options.plot:
        plot.check(options.plot)
    report = run(options)
    print(FORMATS[options.output](report), end="", flush=True)
    if report.failure:
        raise StartError(report.failure)
    if options.save:
        save(report, options.save)
    if options.plot:
        options.draw(report.series, options.plot)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="skiff-bench",
        description="Measures language models in ONNX Runtime, and servers of any kind.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"skiff-bench {__version__}")
    modes = parser.add_subparsers(metavar="MODE", required=True)
    for name, module, text in (
        ("engine", engine, "prompt and decode speed of a model folder, without a network"),
        ("batch", batch, "many sequences at once, with the columns of llama-batched-bench"),
        ("serve", serve, "latency and throughput of a server, or of two in turns, over HTTP"),
        ("network", network, "what HTTP adds to the engine: the same clients with and without it"),
        ("pace", pace, "what --gap-stretch chooses between: streams' gaps, and a first token"),
        ("start", start, "how long a server takes from nothing to its first token"),
        ("soak", soak, "how much memory a server has while it answers many requests"),
        ("http", strictness, "what strict reading adds to h11 and json alone"),
        ("speculate", speculate, "what --speculate is worth, where answers repeat and where not"),
        ("compare", compare, "two runs that were saved: what differs by more than the noise"),
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
        help="what is printed (default: table)",
    )
    if measures:
        group.add_argument(
            "--save", metavar="FILE", type=Path, help="keep all raw figures, as JSON, for compare"
        )
    if drawing:
        group.add_argument("--plot", metavar="FILE", type=Path, help=f"{drawing} (.png, .svg)")
