"""`skiff-bench compare`: compares two saved runs, figure by figure.

Knows its table; does not know what the runs measured.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model_tools.bench.report.report import Cell, Report, Table
from model_tools.bench.report.saved import load
from model_tools.bench.report.series import Better, Of, Series
from model_tools.bench.report.significance import LEVEL, chance, enough
from model_tools.bench.report.spread import Spread
from server.errors import StartError

Key = tuple[str, ...]


def add_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", type=Path, help="a run that --save wrote")
    parser.add_argument(
        "second", metavar="B", type=Path, help="another one, to be judged against A"
    )


def run(options: argparse.Namespace) -> Report:
    """Raises `StartError`."""
    first, second = load(options.first), load(options.second)
    columns = ("test", "subject", "figure", "A", "B", "B / A", "p-value", "B is")
    rows = tuple(_rows(first, second))
    if not rows:
        raise StartError(f"{options.first} and {options.second} have no figure in common")
    title = f"B against A; a difference counts if its p-value is at most {LEVEL}"
    return Report("compare", _headers(first, second), (Table(title, columns, rows),))


def _rows(first: Report, second: Report) -> Iterator[tuple[Cell, ...]]:
    """Yields a row for each figure that both runs have, of rounds and repetitions only: requests
    and gaps of one round are too much alike for their number to prove anything. Figures with one
    value throughout, such as refusals where there are none, are left out."""
    alone = all(len({each.subject for each in run.series}) == 1 for run in (first, second))
    theirs = {_key(series, alone=alone): series for series in second.series}
    for ours in first.series:
        other = theirs.get(_key(ours, alone=alone))
        if not other or not ours.samples or not other.samples or ours.of is not Of.ROUND:
            continue
        if len({*ours.samples, *other.samples}) > 1:
            yield _row(ours, other)


def _key(series: Series, *, alone: bool) -> Key:
    """Identifies a figure. The subject's name is ignored where each run has one subject: a server
    may be named after its port."""
    return (series.test, series.measure, "" if alone else series.subject)


def _row(ours: Series, other: Series) -> tuple[Cell, ...]:
    before, after = float(np.mean(ours.samples)), float(np.mean(other.samples))
    probability = chance(ours.samples, other.samples)
    return (
        ours.test,
        other.subject,
        ours.measure,
        Spread.of(ours.samples),
        Spread.of(other.samples),
        after / before if before else None,
        probability,
        _verdict(ours, other, rises=after > before, probability=probability),
    )


def _verdict(ours: Series, other: Series, *, rises: bool, probability: float) -> str:
    if not enough(ours.samples, other.samples):
        return "unknown: too few"
    if probability > LEVEL:
        return "the same"
    return "better" if rises == (ours.better is Better.HIGHER) else "worse"


def _headers(first: Report, second: Report) -> dict[str, str]:
    """Merges the headers; an entry that differs shows both values."""
    headers = {}
    for name in first.header | second.header:
        before, after = first.header.get(name, "?"), second.header.get(name, "?")
        headers[name] = before if before == after else f"{before} -> {after}"
    return headers
