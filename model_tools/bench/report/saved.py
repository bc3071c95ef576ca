"""Saves and loads a run's raw figures as JSON. Knows the file's format."""

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model_tools.bench.report.report import Report
from model_tools.bench.report.series import Better, Of, Series
from server.errors import StartError

FORMAT = "skiff-bench 1"


def check_writable(file: Path) -> None:
    """Raises `StartError` if the file cannot be written, before an hour is spent on measuring."""
    place = file
    try:
        file.stat()
    except FileNotFoundError:
        place = file.parent
        if not place.is_dir():
            raise StartError(f"{file}: no such folder") from None
    except OSError as error:  # such as a name that is too long
        raise StartError(f"{file}: {error.strerror}") from None
    if file.is_dir():
        raise StartError(f"{file}: is a folder")
    if not os.access(place, os.W_OK):
        raise StartError(f"{file}: may not be written")


def save(report: Report, file: Path) -> None:
    """Raises `StartError`."""
    document = {
        "format": FORMAT,
        "command": report.command,
        "header": report.header,
        "series": [_written(series) for series in report.series],
    }
    try:
        file.write_text(json.dumps(document) + "\n", encoding="utf-8")
    except OSError as error:
        raise StartError(f"{file}: cannot be written: {error.strerror}") from None


def load(file: Path) -> Report:
    """Returns a report without tables. Raises `StartError`."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise StartError(f"{file}: cannot be read as JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise StartError(f"{file}: was not written by --save of this skiff-bench")
    try:
        series = tuple(map(_read, document["series"]))
        return Report(document["command"], dict(document["header"]), (), series)
    except (LookupError, TypeError, ValueError) as error:
        raise StartError(f"{file}: is damaged: {error!r}") from None


def _written(series: Series) -> dict[str, Any]:
    return {**asdict(series), "better": series.better.value, "of": series.of.value}


def _read(record: dict[str, Any]) -> Series:
    """Raises LookupError, TypeError or ValueError for what `_written` does not write."""
    samples = tuple(map(float, record["samples"]))
    if not all(map(math.isfinite, samples)):
        raise ValueError("a figure is no finite number")
    return Series(
        test=str(record["test"]),
        subject=str(record["subject"]),
        measure=str(record["measure"]),
        better=Better(record["better"]),
        of=Of(record["of"]),
        samples=samples,
        at=None if record["at"] is None else float(record["at"]),
    )
