"""Formats a report as text: for a terminal, for a web page or for another program."""

import csv
import io
import json
from collections.abc import Callable, Iterator

from tabulate import tabulate

from model_tools.bench.report.report import Cell, Report, Table
from model_tools.bench.report.spread import Middle, Spread, shown

Value = str | int | float | None


def as_table(report: Report) -> str:
    header = [f"{name}: {value}" for name, value in report.header.items()]
    tables = [f"{table.title}\n\n{_text(table, 'simple')}" for table in report.tables]
    return "\n\n".join(["\n".join(header), *tables]) + "\n"


def as_markdown(report: Report) -> str:
    header = [f"- {name}: {value}" for name, value in report.header.items()]
    tables = [f"{table.title}\n\n{_text(table, 'github')}" for table in report.tables]
    return "\n\n".join(["\n".join(header), *tables]) + "\n"


def as_json(report: Report) -> str:
    tables = {table.title: list(_records(table)) for table in report.tables}
    document = {"command": report.command, "header": report.header, "tables": tables}
    return json.dumps(document, indent=2) + "\n"


def as_jsonl(report: Report) -> str:
    """One line for each row of each table, with the header's fields in each, as for llama-bench."""
    return "".join(json.dumps(record) + "\n" for record in _all_records(report))


def as_csv(report: Report) -> str:
    """The records of `as_jsonl`; columns that a table does not have are empty."""
    records = list(_all_records(report))
    names = dict.fromkeys(name for record in records for name in record)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


FORMATS: dict[str, Callable[[Report], str]] = {
    "table": as_table,
    "markdown": as_markdown,
    "json": as_json,
    "jsonl": as_jsonl,
    "csv": as_csv,
}


def _text(table: Table, style: str) -> str:
    width = len(table.columns)
    rows = [[_shown(cell) for cell in row] for row in table.rows]
    words = [any(isinstance(row[index], str) for row in table.rows) for index in range(width)]
    alignment = ["left" if each else "right" for each in words]
    text: str = tabulate(
        rows, table.columns, tablefmt=style, colalign=alignment, disable_numparse=True
    )
    return text


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    return shown(cell) if isinstance(cell, float) else str(cell)


def _all_records(report: Report) -> Iterator[dict[str, Value]]:
    for table in report.tables:
        for record in _records(table):
            yield {"table": table.title, **record, **report.header}


def _records(table: Table) -> Iterator[dict[str, Value]]:
    """Yields rows by column name; a spread or a median with extremes becomes several fields."""
    for row in table.rows:
        record: dict[str, Value] = {}
        for name, cell in zip(table.columns, row, strict=True):
            match cell:
                case Spread():
                    record |= {name: cell.mean, f"{name} deviation": cell.deviation}
                case Middle():
                    record |= {
                        name: cell.median,
                        f"{name} low": cell.low,
                        f"{name} high": cell.high,
                    }
                case _:
                    record[name] = cell
        yield record
