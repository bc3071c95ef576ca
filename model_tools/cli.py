"""The `skiff-export` command: argv to an export, errors to one line."""

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from server import __version__
from server.errors import StartError

try:
    from model_tools.export import export
    from model_tools.progress_bar import ProgressBar
    from model_tools.recipe import WeightType
except ModuleNotFoundError as error:
    sys.exit(f"skiff-export: {error.name} is missing: pip install 'skiff-llm[export]'")


def main() -> None:
    """Runs the command and ends the process."""
    # SIGTERM unwinds as Ctrl-C does, so that a half-written folder is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        flags = _parser().parse_args()
        with ProgressBar() as report:
            verification = export(
                flags.source,
                flags.folder,
                weights=flags.weights,
                block_size=flags.block_size,
                equalise=flags.equalise,
                verify=flags.verify,
                force=flags.force,
                report=report,
            )
    except StartError as error:
        sys.exit(f"skiff-export: {error}")
    except KeyboardInterrupt:
        print("skiff-export: interrupted", file=sys.stderr)
        sys.exit(130)
    if verification is not None:
        print(verification)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every other mistake, instead of argparse's usage and line."""
        raise StartError(f"{message} (skiff-export --help shows what there is)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="skiff-export",
        description="Makes a model folder for skiff out of a GGUF file.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="a GGUF file of the llama architecture")
    add("folder", metavar="FOLDER", type=Path, help="the model folder to write")
    add(
        "--weights",
        choices=[str(weights) for weights in WeightType],
        default="int8",
        help="how matrices are stored (default: int8)",
    )
    add(
        "--block-size",
        type=int,
        choices=[32, 64, 128],
        default=32,
        help="integers that share a scale; fewer are nearer to the source, more are faster; "
        "with 32 no answer depends on its neighbours in a batch (default: 32)",
    )
    add(
        "--equalise",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="even out channels before rounding, which makes it lose half as much (default: yes)",
    )
    add(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare the folder with the source (default: yes)",
    )
    add("--force", action="store_true", help="replace a model folder that is there")
    add("--version", action="version", version=f"skiff-export {__version__}")
    return parser
