"""The command line of `skiff`: argv and environment to a `ServerConfig`.

Knows every group of flags in `options/`; does not know what they are for.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from server import __version__
from server.config import DoctorConfig, ServerConfig
from server.errors import StartError
from server.options.access import ACCESS
from server.options.engine import DEVICE, ENGINE
from server.options.engine_limits import ENGINE_LIMITS
from server.options.flag import Group, RawOptions
from server.options.limits import LIMITS
from server.options.prefix_cache import PREFIX_CACHE
from server.options.sampling import SAMPLING
from server.options.serving import SERVING
from server.program import Parser

RESERVED = ("inspect",)
"""Words that will be commands; a folder with such a name is given as ./NAME."""
GROUPS: tuple[Group[object], ...] = (
    SERVING,
    ACCESS,
    ENGINE,
    PREFIX_CACHE,
    LIMITS,
    ENGINE_LIMITS,
    SAMPLING,
)


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> ServerConfig:
    """Reads the server's configuration. Raises `StartError`; exits after --help and --version."""
    if arguments and arguments[0] in RESERVED:
        word = arguments[0]
        raise StartError(
            f"the command `{word}` is not there yet; a folder of that name is ./{word}"
        )
    flags = parser().parse_args(arguments)
    raw = RawOptions(flags, environment)
    return ServerConfig(
        model_folder=flags.model_folder,
        serving=SERVING.read(raw),
        engine=ENGINE.read(raw),
        prefix_cache=PREFIX_CACHE.read(raw),
        access=ACCESS.read(raw),
        limits=LIMITS.read(raw),
        engine_limits=ENGINE_LIMITS.read(raw),
        sampling=SAMPLING.read(raw),
    )


def read_doctor(arguments: Sequence[str], environment: Mapping[str, str]) -> DoctorConfig:
    """Reads the doctor's configuration. Raises `StartError`; exits after --help."""
    parser = Parser(
        prog="skiff doctor",
        description="Prints all that decides where a model runs, and what each finding means. Ends "
        "with 1 where what was asked for does not work.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "model_folder",
        metavar="MODEL_FOLDER",
        type=Path,
        nargs="?",
        help="load this folder wherever it might run, too",
    )
    DEVICE.add_to(parser)
    flags = parser.parse_args(arguments)
    return DoctorConfig(DEVICE.value(RawOptions(flags, environment)), flags.model_folder)


def parser() -> argparse.ArgumentParser:
    """The command line; values are read later, by the flags themselves."""
    parser = Parser(
        prog="skiff",
        usage="%(prog)s [flags] MODEL_FOLDER",
        description="Serves the language model in MODEL_FOLDER over HTTP. `skiff doctor "
        "[MODEL_FOLDER]` says\nwhat this machine has for it; a folder of that name is ./doctor.",
        epilog="Each flag can also be set as the environment variable below it, a repeatable one\n"
        "with commas between its values; the flag wins.",
        formatter_class=argparse.RawTextHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model_folder", metavar="MODEL_FOLDER", type=Path, help="a folder that skiff-export wrote"
    )
    parser.add_argument("--version", action="version", version=f"skiff {__version__}")
    for group in GROUPS:
        group.add_to(parser)
    return parser
