"""What was found, as rows of one table. Knows no measurement."""

from dataclasses import asdict, dataclass, fields

from model_tools.bench.report.report import Cell, Report, Table


@dataclass(frozen=True, slots=True)
class Finding:
    """One row. What does not belong to it is None."""

    model: str
    what: str
    batch: int | None = None
    past: int | None = None
    tokens_per_second: float | None = None
    step_ms: float | None = None
    outside_runtime: float | None = None
    """Share of a step, from the plan to the tokens, that is not spent in the runtime's call."""
    kernels_ms: float | None = None
    """Of a step, all kernels and copies on the device together."""
    of_bandwidth: float | None = None
    """Bytes that a step must read, a second, to those that a copy moves."""
    transformers: float | None = None
    """Tokens per second of `transformers` on the same weights."""
    note: str = ""


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


def as_report(command: str, header: dict[str, str], findings: list[Finding]) -> Report:
    """All of them as one table."""
    names = [field.name for field in fields(Finding)]
    rows: list[tuple[Cell, ...]] = [
        tuple(asdict(finding)[name] for name in names) for finding in findings
    ]
    table = Table("gpu_check", tuple(COLUMNS[name] for name in names), tuple(rows))
    return Report(command, header, (table,))
