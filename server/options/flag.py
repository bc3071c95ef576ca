"""A flag that is also an environment variable. Knows argparse; does not know Skiff's flags.

Values stay strings until here, so that a bad one is reported in the same way from the command line
and the environment, under the name that the operator wrote.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from server.errors import StartError

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class RawOptions:
    """The operator's words: the command line and, where it is silent, the environment."""

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
    """The value if the operator gives none; shown in --help; parsed unless there is `otherwise`."""
    otherwise: Callable[[], T_co] | None = None
    """Returns the value if the operator gives none, where `default` only describes it."""

    @property
    def variable(self) -> str:
        return "SKIFF_" + self.name.upper().replace("-", "_")

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        text = self._help_text()
        if self.metavar is None:
            parser.add_argument(f"--{self.name}", action="store_const", const="on", help=text)
        else:
            parser.add_argument(f"--{self.name}", metavar=self.metavar, help=text)

    def value(self, raw: RawOptions) -> T_co:
        """Return the value in force; an empty variable counts as unset. Raises `StartError`."""
        if (flag := self._on_command_line(raw)) is not None:
            return self._parsed(f"--{self.name}", flag)
        if variable := raw.environment.get(self.variable):
            return self._parsed(self.variable, variable)
        return self.otherwise() if self.otherwise else self.parse(self.default)

    def _help_text(self, note: str = "") -> str:
        text = f"{self.help}{note}\n[{self.variable}, default: {self.default}]"
        return text.replace("%", "%%")  # argparse formats it

    def _on_command_line(self, raw: RawOptions) -> str | None:
        value: str | None = getattr(raw.flags, self.name.replace("-", "_"))
        return value

    def _parsed(self, source: str, text: str) -> T_co:
        try:
            return self.parse(text)
        except ValueError as error:
            raise StartError(f"{source} must be {error}, not {text[:80]!r}") from None


@dataclass(frozen=True, slots=True)
class Repeatable(Flag[T_co]):
    """`--name VALUE --name VALUE`, or `SKIFF_NAME=VALUE,VALUE`; `parse` gets the latter form."""

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        text = self._help_text(" (repeatable)")
        parser.add_argument(f"--{self.name}", metavar=self.metavar, action="append", help=text)

    def _on_command_line(self, raw: RawOptions) -> str | None:
        values: list[str] | None = getattr(raw.flags, self.name.replace("-", "_"))
        return None if values is None else ",".join(values)


@dataclass(frozen=True, slots=True)
class Group(Generic[T_co]):
    """Flags that together make one value of the configuration, under one title of --help."""

    title: str
    description: str
    make: Callable[..., T_co]
    flags: Mapping[str, Flag[object]]
    """By the name of the argument of `make` that each one gives."""

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group(self.title, self.description)
        for flag in self.flags.values():
            flag.add_to(group)

    def read(self, raw: RawOptions) -> T_co:
        """Return the value that its flags make. Raises `StartError`."""
        return self.make(**{name: flag.value(raw) for name, flag in self.flags.items()})
