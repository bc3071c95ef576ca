"""The figures of one server under one load. Knows replies; does not know servers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model_tools.bench.report.series import Better, Of
from model_tools.bench.serve.load import Load
from model_tools.bench.serve.reply import ANSWERED, Outcome, Reply


@dataclass(frozen=True, slots=True)
class Result:
    """One round of a load on one server."""

    server: str
    load: Load
    replies: tuple[Reply, ...]

    @property
    def seconds(self) -> float:
        """From the first request to the last token."""
        ends = [reply.due + reply.times[-1] for reply in self.replies if reply.times]
        return max(ends) - min(reply.due for reply in self.replies) if ends else 0.0

    @property
    def tokens(self) -> int:
        return sum(reply.tokens for reply in self.replies)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    def count(self, outcome: Outcome) -> int:
        return sum(reply.outcome is outcome for reply in self.replies)


def failure(results: Sequence[Result]) -> str | None:
    """Returns the first request's reason if no request of any round was answered, else None."""
    replies = [reply for result in results for reply in result.replies]
    if any(reply.outcome in ANSWERED for reply in replies):
        return None
    return f"no request was answered: {replies[0].reason}"


@dataclass(frozen=True, slots=True)
class Measure:
    """A latency, and how replies give its figures."""

    name: str
    figures: Callable[[Sequence[Reply]], list[float]]
    """In seconds."""
    of: Of = Of.REQUEST


def _each(
    figure: Callable[[Reply], float | None], *outcomes: Outcome
) -> Callable[[Sequence[Reply]], list[float]]:
    def figures(replies: Sequence[Reply]) -> list[float]:
        found = [figure(reply) for reply in replies if reply.outcome in outcomes]
        return [each for each in found if each is not None]

    return figures


def _gaps(replies: Sequence[Reply]) -> list[float]:
    return [gap for reply in replies if reply.outcome in ANSWERED for gap in reply.gaps]


TIME_TO_FIRST_TOKEN = Measure(
    "time to first token", _each(lambda reply: reply.time_to_first_token, *ANSWERED)
)
GAP = Measure("gap between tokens", _gaps, Of.GAP)
TIME_PER_OUTPUT_TOKEN = Measure(
    "time per output token", _each(lambda reply: reply.time_per_output_token, Outcome.COMPLETE)
)
END_TO_END = Measure("end to end", _each(lambda reply: reply.end_to_end, Outcome.COMPLETE))
MEASURES = (TIME_TO_FIRST_TOKEN, GAP, TIME_PER_OUTPUT_TOKEN, END_TO_END)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of a whole round, by which servers are compared."""

    name: str
    figure: Callable[[Result], float | None]
    better: Better = Better.LOWER


def _percentile(measure: Measure, percent: float) -> Callable[[Result], float | None]:
    def figure(result: Result) -> float | None:
        figures = measure.figures(result.replies)
        return float(np.percentile(figures, percent)) if figures else None

    return figure


RATIOS = (
    Ratio("tokens/s", lambda result: result.tokens_per_second or None, Better.HIGHER),
    Ratio("first token p50", _percentile(TIME_TO_FIRST_TOKEN, 50)),
    Ratio("gap p50", _percentile(GAP, 50)),
    Ratio("gap p99", _percentile(GAP, 99)),
    Ratio("per token p50", _percentile(TIME_PER_OUTPUT_TOKEN, 50)),
    Ratio("end to end p50", _percentile(END_TO_END, 50)),
)
"""One value for each round, so that a disturbed round spoils one value and not many."""
