"""The `skiff-bench` command: argv to one of its modes, the report to where it is wanted.

Knows the modes' names; each has its flags and its tables in a package of its own.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from model_tools.bench.flags import Parser
from server import __version__
from server.errors import StartError

try:
    from model_tools.bench.engine import command as engine
    from model_tools.bench.report.formats import FORMATS
    from model_tools.bench.report.report import Report
    from model_tools.bench.serve import command as serve
except ModuleNotFoundError as error:
    sys.exit(f"skiff-bench: {error.name} is missing: pip install 'skiff-llm[bench]'")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; ends the process where it cannot."""
    try:
        options = _parser().parse_args(arguments)
        run: Callable[[argparse.Namespace], Report] = options.run
        print(FORMATS[options.output](run(options)), end="")
    except StartError as error:
        sys.exit(f"skiff-bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


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
        ("serve", serve, "latency and throughput of a server, or of two in turns, over HTTP"),
    ):
        mode = modes.add_parser(name, help=text, description=f"{text}.", allow_abbrev=False)
        module.add_to(mode)
        _add_output(mode)
        mode.set_defaults(run=module.run)
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        choices=list(FORMATS),
        default="table",
        help="what is printed (default: table)",
    )
