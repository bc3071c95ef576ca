"""The figures of a round of clients, in process or over HTTP."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model_tools.bench.report.series import Better
from server.errors import StartError


@dataclass(frozen=True, slots=True)
class Figures:
    """One round. Times are in milliseconds."""

    tokens_per_second: float
    first_token: float
    """Time to the first text, the median of the requests."""
    gap_p50: float
    """Between two arrivals of text of one request; so is `gap_p99`."""
    gap_p99: float
    decode_step: float
    """Mean wall time of the engine's steps that read no prompt."""
    runtime_share: float
    """Share of these steps' time that is spent in ONNX Runtime's calls."""

    @classmethod
    def of(
        cls,
        *,
        tokens_per_second: float,
        first_tokens: Sequence[float],
        gaps: Sequence[float],
        decode_step: float | None,
        runtime_share: float | None,
    ) -> "Figures":
        """Takes times in seconds. Raises `StartError` if there was no gap or no decode step."""
        if not gaps:
            raise StartError("no two tokens came one after the other: more --new-tokens, please")
        if decode_step is None or runtime_share is None:
            raise StartError("all steps read a prompt: more --new-tokens, please")
        p50, p99 = (1000 * float(np.percentile(gaps, percent)) for percent in (50, 99))
        first_token = 1000 * float(np.median(first_tokens))
        return cls(tokens_per_second, first_token, p50, p99, 1000 * decode_step, runtime_share)


@dataclass(frozen=True, slots=True)
class Figure:
    """One of `Figures`, as a row of a table."""

    title: str
    of: Callable[[Figures], float]
    better: Better = Better.LOWER


FIGURES = (
    Figure("tokens/s", lambda round_: round_.tokens_per_second, Better.HIGHER),
    Figure("first token p50, ms", lambda round_: round_.first_token),
    Figure("gap p50, ms", lambda round_: round_.gap_p50),
    Figure("gap p99, ms", lambda round_: round_.gap_p99),
    Figure("decode step, ms", lambda round_: round_.decode_step),
    Figure("ONNX Runtime / decode step", lambda round_: round_.runtime_share, Better.HIGHER),
)
