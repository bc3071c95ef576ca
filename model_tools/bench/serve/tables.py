"""The tables of `skiff-bench serve`. Knows results; does not know how they came about."""

from collections.abc import Iterator, Sequence

from model_tools.bench.report.distribution import COLUMNS, Distribution
from model_tools.bench.report.report import Cell, Table
from model_tools.bench.report.spread import Middle, Spread
from model_tools.bench.serve.prometheus import Metrics, changed, quotients
from model_tools.bench.serve.reply import ANSWERED, Outcome
from model_tools.bench.serve.result import MEASURES, RATIOS, Ratio, Result

Rounds = Sequence[Result]
"""The rounds of one server under one load."""


def requests_table(groups: Sequence[Rounds]) -> Table:
    """How the requests ended, and how many tokens came."""
    outcomes = tuple(outcome.value for outcome in Outcome)
    columns = ("load", "server", *outcomes, "tokens", "tokens/s", "first reason")
    return Table("requests", columns, tuple(map(_requests_row, groups)))


def _requests_row(rounds: Rounds) -> tuple[Cell, ...]:
    counts = [sum(result.count(outcome) for result in rounds) for outcome in Outcome]
    replies = [reply for result in rounds for reply in result.replies]
    reasons = [reply.reason for reply in replies if reply.outcome not in ANSWERED]
    return (
        rounds[0].load.name,
        rounds[0].server,
        *counts,
        sum(result.tokens for result in rounds),
        Spread.of([result.tokens_per_second for result in rounds]),
        reasons[0][:60] if reasons else None,
    )


def latency_table(groups: Sequence[Rounds]) -> Table:
    """Distributions over all rounds together."""
    rows: list[tuple[Cell, ...]] = []
    for rounds in groups:
        replies = [reply for result in rounds for reply in result.replies]
        for measure in MEASURES:
            if figures := [1000 * figure for figure in measure.figures(replies)]:
                who = (rounds[0].load.name, rounds[0].server, measure.name)
                rows.append((*who, len(figures), *Distribution.of(figures).cells))
    columns = ("load", "server", "figure", "count", *COLUMNS)
    return Table("latency in milliseconds", columns, tuple(rows))


def ratios_table(groups: Sequence[tuple[Rounds, Rounds]]) -> Table:
    """The first server's figures over the second's, pair by pair."""
    first, second = groups[0]
    title = f"{first[0].server} / {second[0].server}: median of {len(first)} pairs"
    columns = ("load", *(ratio.name for ratio in RATIOS))
    rows = [
        (ours[0].load.name, *(_ratio(ratio, ours, theirs) for ratio in RATIOS))
        for ours, theirs in groups
    ]
    return Table(title, columns, tuple(rows))


def _ratio(ratio: Ratio, ours: Rounds, theirs: Rounds) -> Middle | None:
    figures = []
    for our, their in zip(ours, theirs, strict=True):
        above, below = ratio.figure(our), ratio.figure(their)
        if above is not None and below:
            figures.append(above / below)
    return Middle.of(figures) if figures else None


def metrics_table(seen: Sequence[tuple[str, Metrics, Metrics]]) -> Table | None:
    """Changes of the servers' own metrics; None if there are none."""
    rows = tuple(_metrics_rows(seen))
    columns = ("metric", "server", "before", "after", "difference")
    return Table("the servers' own metrics", columns, rows) if rows else None


def _metrics_rows(seen: Sequence[tuple[str, Metrics, Metrics]]) -> Iterator[tuple[Cell, ...]]:
    for server, before, after in seen:
        for name, old, new in changed(before, after):
            yield name, server, old, new, new - old
        for name, value in quotients(before, after):
            yield name, server, None, None, value
