"""The `skiff-bench` command: prompt and decode speed of a model folder, in process.

Knows the command line and prints; the flags and the names of tests are llama-bench's.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from model_tools.bench.genai_runner import GenaiRunner
from model_tools.bench.machine import describe
from model_tools.bench.measurement import Measurement, measure
from model_tools.bench.skiff_runner import SkiffRunner
from model_tools.bench.workload import Runner, Workload
from server.cores import usable_cores
from server.errors import StartError

WIDTH = 16


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        _bench(options)
    except StartError as error:
        sys.exit(f"skiff-bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _bench(options: argparse.Namespace) -> None:
    workloads = [Workload.reading(tokens) for tokens in options.prompt]
    for streams in options.streams:
        workloads += [Workload.generating(tokens, streams) for tokens in options.new]
    if not workloads:
        raise StartError("nothing to measure")
    skiff = SkiffRunner(
        options.folder,
        slots=max(workload.streams for workload in workloads),
        context=max(workload.context for workload in workloads),
        threads=options.threads,
    )
    runners: list[Runner] = [skiff]
    if options.against == "genai":
        runners.append(GenaiRunner(options.folder, threads=options.threads))
    print(*describe(options.folder, options.threads), sep="\n", end="\n\n")
    names = [runner.name for runner in runners]
    print(
        _row("test", [f"{name} t/s" for name in names] + [f"skiff / {name}" for name in names[1:]])
    )
    print(_row("---", ["---:"] * (2 * len(names) - 1)))
    for measurement in measure(
        runners,
        workloads,
        vocabulary_size=skiff.vocabulary_size,
        repetitions=options.repetitions,
    ):
        print(_row(measurement.workload.name, _figures(measurement)), flush=True)


def _figures(measurement: Measurement) -> list[str]:
    return [str(spread) for spread in (*measurement.rates, *measurement.ratios)]


def _row(name: str, cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return " | ".join([f"| {name:<9}", *(f"{cell:>{WIDTH}}" for cell in cells)]) + " |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skiff-bench",
        description="Measures tokens per second of a model folder, without a network.",
    )
    parser.add_argument("folder", metavar="MODEL_FOLDER", type=Path)
    for flags, name, default, text in (
        (("-p", "--prompt"), "prompt", [512], "prompt lengths to read"),
        (("-n", "--new"), "new", [128], "tokens to generate from an empty context"),
        (("-s", "--streams"), "streams", [1], "sequences that generate side by side"),
    ):
        shown = ",".join(map(str, default))
        parser.add_argument(
            *flags,
            dest=name,
            metavar="N[,N...]",
            type=_counts,
            default=default,
            help=f"{text} (default: {shown})",
        )
    parser.add_argument(
        "-r", "--repetitions", metavar="N", type=_count, default=5, help="(default: 5)"
    )
    parser.add_argument(
        "-t",
        "--threads",
        metavar="N",
        type=_count,
        default=usable_cores(),
        help="cores that one call uses (default: all usable ones)",
    )
    parser.add_argument(
        "--against",
        choices=["genai"],
        help="also measure onnxruntime-genai on the same folder, in alternation",
    )
    return parser


def _counts(text: str) -> list[int]:
    """Numbers above 0; a single 0 is none of them, as llama-bench has it."""
    return [] if text == "0" else [_count(part) for part in text.split(",")]


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer above 0, not {text!r}")
    return int(text)
