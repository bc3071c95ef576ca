"""A report in each of its formats."""

import csv
import io
import json

import pytest

from model_tools.bench.report.formats import (
    as_csv,
    as_json,
    as_jsonl,
    as_markdown,
    as_table,
)
from model_tools.bench.report.report import Report, Table
from model_tools.bench.report.spread import Middle, Spread, shown

REPORT = Report(
    command="engine",
    header={"processor": "an abacus"},
    tables=(
        Table("rates", ("test", "t/s"), (("pp512", Spread(1234.5678, 12.3)),)),
        Table("parts", ("test", "µs", "note"), (("tg128", 12.345678, None),)),
    ),
)


def test_a_spread_is_the_mean_and_the_deviation_of_a_sample() -> None:
    assert Spread.of([1, 2, 3]) == Spread(2, 1)
    assert Spread.of([5]) == Spread(5, 0)
    assert Middle.of([3, 1, 9]) == Middle(3, 1, 9)
    assert str(Middle(0.98, 0.9, 1.2)) == "0.980 (0.900 to 1.200)"
    assert str(Spread(191.234, 2.345)) == "191.2 ± 2.3"


@pytest.mark.parametrize(
    ("figure", "text"), [(0.0, "0"), (1234567.0, "1234567"), (0.012345, "0.01235"), (-2, "-2.000")]
)
def test_a_figure_has_four_significant_digits(figure: float, text: str) -> None:
    assert shown(figure) == text


def test_a_table_shows_header_and_rounded_figures() -> None:
    lines = as_table(REPORT).splitlines()
    assert lines[0] == "processor: an abacus"
    assert any(line.split() == ["pp512", "1235", "±", "12"] for line in lines)
    assert any(line.split() == ["tg128", "12.35"] for line in lines)


def test_markdown_has_tables_of_pipes() -> None:
    rows = [line for line in as_markdown(REPORT).splitlines() if line.startswith("|")]
    assert len(rows) == 6
    assert [cell.strip() for cell in rows[2].split("|")[1:-1]] == ["pp512", "1235 ± 12"]


def test_json_keeps_every_digit() -> None:
    document = json.loads(as_json(REPORT))
    assert document["header"] == REPORT.header
    assert document["tables"]["rates"] == [
        {"test": "pp512", "t/s": 1234.5678, "t/s deviation": 12.3}
    ]


def test_each_line_of_jsonl_stands_alone() -> None:
    first, second = map(json.loads, as_jsonl(REPORT).splitlines())
    assert first["table"] == "rates"
    assert second == {
        "table": "parts",
        "test": "tg128",
        "µs": 12.345678,
        "note": None,
        "processor": "an abacus",
    }


def test_csv_has_the_columns_of_all_tables() -> None:
    first, second = csv.DictReader(io.StringIO(as_csv(REPORT)))
    assert (first["t/s"], first["µs"]) == ("1234.5678", "")
    assert (second["t/s"], second["µs"]) == ("", "12.345678")
