"""Sampling from the candidates that a device returns for a row of logits, and from the whole row.

Knows samplers; does not know decoders.
"""

from dataclasses import dataclass, fields, replace
from functools import partial

from model_tools.verification.comparison import Tokens
from server.config import SamplingParameters
from server.engine.distribution import Row
from server.engine.sampling import Sampler
from server.model.candidates import Candidates

NUCLEUS = SamplingParameters(temperature=0.8, top_p=0.95)
"""With random weights nearly every row has to be fetched: sampling at its most expensive."""
NARROW_NUCLEUS = replace(NUCLEUS, top_k=40)
"""Candidates always suffice."""
FLAT = SamplingParameters(temperature=2.0)
"""Candidates never suffice."""
DRAWN = (
    NARROW_NUCLEUS,
    NUCLEUS,
    SamplingParameters(temperature=0.7),
    SamplingParameters(temperature=1.0, min_p=0.05),
    SamplingParameters(temperature=0.8, top_k=40, repetition_penalty=1.1),
    FLAT,
)
"""One for each way in which candidates suffice, or do not."""


def in_words(sampling: SamplingParameters) -> str:
    """The parameters that are not at their defaults, without the seed."""
    default = SamplingParameters(seed=sampling.seed)
    names = [field.name for field in fields(sampling)]
    asked = [name for name in names if getattr(sampling, name) != getattr(default, name)]
    words = [f"{name.replace('_', '-')} {getattr(sampling, name):g}" for name in asked]
    return ", ".join(words) or "greedy"


@dataclass(slots=True)
class Tally:
    """Counts over rows for which a device returned candidates."""

    rows: int = 0
    fetched: int = 0
    """Rows that were fetched whole, since candidates did not suffice."""
    differing: int = 0
    """Rows whose candidates led to another token than the whole row."""

    def __str__(self) -> str:
        return f"{self.fetched} of {self.rows} rows fetched whole"


class CountingSampler(Sampler):
    """Counts its rows, and those that it fetches whole."""

    def __init__(self, parameters: SamplingParameters, prompt: Tokens, tally: Tally) -> None:
        super().__init__(parameters, prompt)
        self._tally = tally

    def choose_among(self, candidates: Candidates) -> int | None:
        self._tally.rows += 1
        return super().choose_among(replace(candidates, whole=partial(self._fetched, candidates)))

    def _fetched(self, candidates: Candidates) -> Row:
        self._tally.fetched += 1
        return candidates.whole()


class ComparedSampler(CountingSampler):
    """Also chooses from each whole row, as on the CPU, and counts differences. The parameters must
    have a seed, so that both draw alike."""

    def __init__(self, parameters: SamplingParameters, prompt: Tokens, tally: Tally) -> None:
        super().__init__(parameters, prompt, tally)
        self._of_rows = Sampler(parameters, prompt)

    def choose_among(self, candidates: Candidates) -> int | None:
        token = super().choose_among(candidates)
        self._tally.differing += token != self._of_rows.choose(candidates.whole())
        return token
