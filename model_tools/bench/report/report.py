"""The result of a benchmark, as values: tables for people, samples for comparisons."""

from dataclasses import dataclass

from model_tools.bench.report.series import Series
from model_tools.bench.report.spread import Middle, Spread

Cell = str | int | float | Spread | Middle | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table; its first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one command."""

    command: str
    header: dict[str, str]
    """The context of the figures: the machine, the versions, the model."""
    tables: tuple[Table, ...]
    series: tuple[Series, ...] = ()
    failure: str | None = None
    """Why nothing was measured, if so; the tables say more."""
