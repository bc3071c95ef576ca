"""Flags that several commands share. Knows argparse; does not know what is measured."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from model_tools.bench.serve.prompts import Lengths
from model_tools.default_model import model_folder
from server.config import SamplingParameters
from server.cores import usable_cores
from server.errors import StartError
from server.options import values
from server.options.engine import MAX_THREADS
from server.options.flag import RawOptions
from server.options.sampling import SAMPLING
from server.program import Parser

T = TypeVar("T")

MOST = 2**31 - 1
"""The limit where there is no other one."""


def add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="MODEL_FOLDER",
        type=Path,
        nargs="?",
        help="what skiff-export wrote (default: the model that scripts/serve serves)",
    )


def folder_of(options: argparse.Namespace) -> Path:
    """Raises `StartError`."""
    folder: Path | None = options.folder
    return folder or model_folder()


def add_lengths(parser: argparse._ActionsContainer, *, words: Lengths, new_tokens: Lengths) -> None:
    """Lengths of random prompts and of their answers."""
    parser.add_argument(
        "--words",
        metavar="N[-N]",
        type=lengths,
        default=words,
        help=f"length of a prompt of random words, about a token each (default: {words})",
    )
    parser.add_argument(
        "--new-tokens",
        metavar="N[-N]",
        type=lengths,
        default=new_tokens,
        help=f"length of an answer (default: {new_tokens})",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-t",
        "--threads",
        metavar="N",
        type=up_to(MAX_THREADS),
        default=usable_cores(),
        help="threads that run one call of the model (default: one for each usable core)",
    )


def add_repetitions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-r",
        "--repetitions",
        metavar="N",
        type=count,
        default=5,
        help="how often each test is timed, after one run to warm up (default: 5)",
    )


def add_concurrency(
    parser: argparse._ActionsContainer, default: list[int], limit: int = MOST
) -> None:
    """Numbers of clients, for closed loops."""
    shown = ",".join(map(str, default))
    parser.add_argument(
        "--concurrency",
        metavar="N[,N...]",
        type=each_once(up_to(limit)),
        default=default,
        help=f"clients at once, each waiting for its answer (default: {shown})",
    )


def add_counts(
    parser: argparse._ActionsContainer,
    *flags: str,
    default: list[int],
    text: str,
    limit: int = MOST,
    or_none: bool = False,
) -> None:
    """A list of numbers from 1 to `limit`. With `or_none`, a single 0 means an empty list, as for
    llama-bench."""
    counts = each_once(up_to(limit))

    def parse(given: str) -> list[int]:
        return [] if or_none and given == "0" else counts(given)

    shown = ",".join(map(str, default))
    parser.add_argument(
        *flags,
        metavar="N[,N...]",
        type=parse,
        default=default,
        help=f"{text}{'; 0 for none' if or_none else ''} (default: {shown})",
    )


def sampling(text: str) -> SamplingParameters:
    """Parses sampling flags of skiff, such as `--temperature 0.8 --top-k 40`; the defaults are
    greedy. Raises `StartError`."""
    parser = Parser(prog="skiff", allow_abbrev=False, add_help=False)
    SAMPLING.add_to(parser)
    try:
        given = RawOptions(parser.parse_args(shell_words(text)), environment={})
        return SAMPLING.read(given).over(SamplingParameters())
    except StartError as error:
        raise StartError(f"--sampling: {error}") from None


def shell_words(text: str) -> list[str]:
    """Splits flags as a shell does."""
    try:
        return shlex.split(text)
    except ValueError as error:  # such as a quotation without an end
        raise argparse.ArgumentTypeError(f"{error}: {text[:80]!r}") from None


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Wraps a parser of `server.options.values` so that argparse reports its errors."""

    def checked(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be {error}, not {text[:80]!r}") from None

    return checked


def up_to(limit: int) -> Callable[[str], int]:
    """An integer from 1 to `limit`."""
    return checked(values.integer(1, limit))


count = up_to(MOST)
whole = checked(values.integer(0, MOST))
positive = checked(values.number(0, above_low=True))
not_negative = checked(values.number(0))
share = checked(values.number(0, 1))
above_one = checked(values.number(1, above_low=True))


def each_once(parse_one: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Comma-separated values, each different: the figures of a repeated test would count twice."""

    def parse(text: str) -> list[T]:
        found = [parse_one(part) for part in text.split(",")]
        if len(set(found)) < len(found):
            raise argparse.ArgumentTypeError(f"must name each value once, not {text[:80]!r}")
        return found

    return parse


def lengths(text: str) -> Lengths:
    low, dash, high = text.partition("-")
    lengths = Lengths(count(low), count(high if dash else low))
    if lengths.high < lengths.low:
        raise argparse.ArgumentTypeError(f"must be N or LOW-HIGH, not {text[:80]!r}")
    return lengths
