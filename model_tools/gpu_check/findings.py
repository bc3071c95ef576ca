"""Results, as rows of one table. Does not know how they are measured."""

from dataclasses import dataclass

from model_tools.bench.report.report import Cell, Report, Table


@dataclass(frozen=True, slots=True)
class Finding:
    """One row. Fields that do not apply to it are None."""

    model: str
    what: str
    batch: int | None = None
    past: int | None = None
    tokens_per_second: float | None = None
    step_ms: float | None = None
    outside_runtime: float | None = None
    """Share of a step's time, from the plan to the tokens, outside the runtime's call."""
    kernels_ms: float | None = None
    """Time of all kernels and copies on the device in a step, summed."""
    of_bandwidth: float | None = None
    """Bytes per second that steps must read, as a share of what a copy reads and writes per
    second."""
    transformers: float | None = None
    """Tokens per second of `transformers` on the same weights."""
    note: str = ""
    failed: bool = False
    """Whether it is a check that failed, or something that broke off; the note says how."""
    skipped: bool = False
    """Whether it was left out; the note says why."""


COLUMNS = {
    "model": "model",
    "what": "what",
    "batch": "batch",
    "past": "past",
    "tokens_per_second": "tokens/s",
    "step_ms": "step, ms",
    "outside_runtime": "outside runtime",
    "kernels_ms": "kernels, ms",
    "of_bandwidth": "of bandwidth",
    "transformers": "transformers, tokens/s",
    "note": "note",
}
"""Titles of the table's columns, by field."""


def as_report(command: str, header: dict[str, str], findings: list[Finding]) -> Report:
    """A report with all findings in one table."""
    rows: list[tuple[Cell, ...]] = [
        tuple(getattr(finding, name) for name in COLUMNS) for finding in findings
    ]
    table = Table("gpu_check", tuple(COLUMNS.values()), tuple(rows))
    return Report(command, header, (table,))
