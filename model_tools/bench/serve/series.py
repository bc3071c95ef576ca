"""The raw figures of `skiff-bench serve`. Knows results."""

from collections.abc import Iterator, Sequence

from model_tools.bench.report.series import Better, Of, Series
from model_tools.bench.serve.reply import ANSWERED, Outcome
from model_tools.bench.serve.result import MEASURES, RATIOS, Result


def all_series(groups: Sequence[Sequence[Result]]) -> Iterator[Series]:
    """For each server under each load: the figures of each round, how its requests ended, and every
    single latency."""
    for rounds in groups:
        yield from _of_rounds(rounds)
        yield from _of_replies(rounds)


def _of_rounds(rounds: Sequence[Result]) -> Iterator[Series]:
    """In milliseconds, except for rates and counts."""
    for ratio in RATIOS:
        factor = 1000 if ratio.better is Better.LOWER else 1
        figures = [ratio.figure(result) for result in rounds]
        samples = tuple(factor * figure for figure in figures if figure is not None)
        yield _series(rounds, ratio.name, ratio.better, Of.ROUND, samples)
    for outcome in Outcome:
        better = Better.HIGHER if outcome in ANSWERED else Better.LOWER
        counts = tuple(float(result.count(outcome)) for result in rounds)
        yield _series(rounds, f"requests {outcome.value}", better, Of.ROUND, counts)


def _of_replies(rounds: Sequence[Result]) -> Iterator[Series]:
    replies = [reply for result in rounds for reply in result.replies]
    for measure in MEASURES:
        samples = tuple(1000 * figure for figure in measure.figures(replies))
        yield _series(rounds, measure.name, Better.LOWER, measure.of, samples)


def _series(
    rounds: Sequence[Result], measure: str, better: Better, of: Of, samples: tuple[float, ...]
) -> Series:
    load, server = rounds[0].load, rounds[0].server
    return Series(load.name, server, measure, better, of, samples, load.size)
