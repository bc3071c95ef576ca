"""A flag that is also an environment variable. Knows argparse; does not know Skiff's flags.

Values stay strings until here, so that a bad one is told the same way wherever it came from, with
the name that the operator wrote.
"""

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from server.errors import StartError

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Told:
    """What the operator said: the command line, and behind it the environment."""

    flags: argparse.Namespace
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Flag(Generic[T_co]):
    """`--name VALUE`, or `SKIFF_NAME=VALUE`."""

    name: str
    metavar: str | None
    """None for a switch, which takes no value on the command line."""
    parse: Callable[[str], T_co]
    """Raises ValueError with what the value must be."""
    help: str
    default: str
    """What holds where nothing was said; shown, and parsed by `value`."""

    @property
    def variable(self) -> str:
        return "SKIFF_" + self.name.upper().replace("-", "_")

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        text = f"{self.help}\n[{self.variable}, default: {self.default}]".replace("%", "%%")
        if self.metavar is None:
            parser.add_argument(f"--{self.name}", action="store_const", const="on", help=text)
        else:
            parser.add_argument(f"--{self.name}", metavar=self.metavar, help=text)

    def value(self, told: Told) -> T_co:
        """The value that holds."""
        given = self.given(told)
        return self.parse(self.default) if given is None else given

    def given(self, told: Told) -> T_co | None:
        """The value that the operator gave, if any; an empty variable counts as none."""
        flag: str | None = getattr(told.flags, self.name.replace("-", "_"))
        if flag is not None:
            return self._parsed(f"--{self.name}", flag)
        variable = told.environment.get(self.variable)
        return self._parsed(self.variable, variable) if variable else None

    def _parsed(self, source: str, text: str) -> T_co:
        try:
            return self.parse(text)
        except ValueError as error:
            raise StartError(f"{source} must be {error}, not {text[:80]!r}") from None


def integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text[:20]) <= high:
            raise ValueError(f"an integer from {low} to {high}")
        return int(text)

    return parse


def number(
    low: float, high: float = math.inf, *, above_low: bool = False
) -> Callable[[str], float]:
    """A finite number; `above_low` leaves `low` itself out."""
    upper = "" if high == math.inf else f" and at most {high:g}"
    sentence = f"a number {'above' if above_low else 'of at least'} {low:g}{upper}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(sentence) from None
        if not math.isfinite(value) or not low <= value <= high or (above_low and value == low):
            raise ValueError(sentence)
        return value

    return parse


def choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text.lower()

    return parse


def switch(text: str) -> bool:
    """On or off, in the words that people write into environments."""
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("on or off")
