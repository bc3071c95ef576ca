"""What a benchmark found, as values: tables for people, samples for comparisons."""

from dataclasses import dataclass

from model_tools.bench.report.series import Series
from model_tools.bench.report.spread import Middle, Spread

Cell = str | int | float | Spread | Middle | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one kind. The first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one command."""

    command: str
    header: dict[str, str]
    """What a figure is worth nothing without: the machine, the versions, the model."""
    tables: tuple[Table, ...]
    series: tuple[Series, ...] = ()
    failure: str | None = None
    """Why nothing was measured; the tables say more."""
