"""The `skiff` command: argv and environment to a `ServerConfig`, errors to one line.

Knows every flag and its default; does not know what is done with them.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from server import __version__, app
from server.config import Address, SamplingChoice, ServerConfig
from server.cores import usable_cores
from server.errors import StartError
from server.flags import Flag, Told, choice, integer, number, switch

RESERVED = ("doctor", "inspect")
"""First words that are, or will be, commands of their own."""


def address(text: str) -> Address:
    """HOST:PORT; an IPv6 host is in brackets, since it has colons itself."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host.strip("[]") or (":" in host) != bracketed:
        raise ValueError("HOST:PORT ([HOST]:PORT for IPv6)")
    try:
        return Address(host.strip("[]"), integer(0, 65535)(port))
    except ValueError:
        raise ValueError("HOST:PORT with a port from 0 to 65535") from None


ADDRESS = Flag(
    "inference-address",
    "HOST:PORT",
    address,
    "where to listen; port 0 takes a free one",
    "127.0.0.1:8061",
)
SLOTS = Flag("slots", "N", integer(1, 1024), "sequences that run at once", "4")
CONTEXT = Flag(
    "context",
    "TOKENS",
    integer(2, 2**31 - 1),
    "prompt and answer of one sequence together",
    "the smaller of the model's and 4096",
)
THREADS = Flag(
    "threads",
    "N",
    integer(1, 1024),
    "cores that one call into ONNX Runtime uses",
    "the cores that this process may use",
)
IGNORE_EOS = Flag(
    "ignore-eos",
    None,
    switch,
    "generate to the limit whatever the model says; for benchmarks",
    "off",
)
LOG_LEVEL = Flag(
    "log-level",
    "LEVEL",
    choice("debug", "info", "warning", "error"),
    "debug, info, warning or error",
    "info",
)
SERVING: tuple[Flag[object], ...] = (ADDRESS, SLOTS, CONTEXT, THREADS, IGNORE_EOS, LOG_LEVEL)

TEMPERATURE = Flag(
    "temperature", "X", number(0), "0 takes the likeliest token, more is more random", "0, greedy"
)
TOP_K = Flag("top-k", "N", integer(0, 2**31 - 1), "choose among the N likeliest; 0: all", "0")
TOP_P = Flag(
    "top-p", "X", number(0, 1, above_low=True), "choose among the likeliest that make up X", "1"
)
MIN_P = Flag(
    "min-p", "X", number(0, 1), "leave out what is less likely than X times the likeliest", "0"
)
REPETITION_PENALTY = Flag(
    "repetition-penalty", "X", number(0, above_low=True), "above 1 repeats less", "1"
)
SEED = Flag(
    "seed", "N", integer(0, 2**63 - 1), "same seed and prompt, same tokens", "a fresh one each time"
)
SAMPLING: tuple[Flag[object], ...] = (TEMPERATURE, TOP_K, TOP_P, MIN_P, REPETITION_PENALTY, SEED)


def main() -> None:
    """Runs the command and ends the process."""
    try:
        app.run(read(sys.argv[1:], os.environ))
    except StartError as error:
        sys.exit(f"skiff: {error}")


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> ServerConfig:
    """Raises `StartError`; ends the process after --help and --version."""
    if arguments and arguments[0] in RESERVED:
        word = arguments[0]
        raise StartError(
            f"the command `{word}` is not there yet; a folder of that name is ./{word}"
        )
    flags = parser().parse_args(arguments)
    told = Told(flags, environment)
    return ServerConfig(
        model_folder=flags.model_folder,
        inference_address=ADDRESS.value(told),
        slots=SLOTS.value(told),
        context=CONTEXT.given(told),
        threads=THREADS.given(told) or usable_cores(),
        sampling=SamplingChoice(
            temperature=TEMPERATURE.given(told),
            top_k=TOP_K.given(told),
            top_p=TOP_P.given(told),
            min_p=MIN_P.given(told),
            repetition_penalty=REPETITION_PENALTY.given(told),
            seed=SEED.given(told),
        ),
        ignore_eos=IGNORE_EOS.value(told),
        log_level=LOG_LEVEL.value(told),
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every other mistake, instead of argparse's usage and line."""
        raise StartError(f"{message} (skiff --help shows what there is)")


def parser() -> argparse.ArgumentParser:
    """The command line; values are read later, by the flags themselves."""
    parser = _Parser(
        prog="skiff",
        description="Serves the language model in MODEL_FOLDER over HTTP.",
        epilog="Each flag can also be set as the environment variable below it; the flag wins.",
        formatter_class=argparse.RawTextHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model_folder", metavar="MODEL_FOLDER", type=Path, help="a folder that skiff-export wrote"
    )
    parser.add_argument("--version", action="version", version=f"skiff {__version__}")
    for flag in SERVING:
        flag.add_to(parser)
    sampling = parser.add_argument_group(
        "sampling",
        "Where neither flag nor variable says it, the model folder's generation_config.json does,\n"
        "and then the default.",
    )
    for flag in SAMPLING:
        flag.add_to(sampling)
    return parser
