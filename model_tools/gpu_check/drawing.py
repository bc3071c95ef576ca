"""Tokens that are drawn: from the candidates that a device tells of a row, or from the whole row.

Knows samplers; does not know which decoder the rows come from.
"""

from dataclasses import dataclass, fields, replace
from functools import partial

from model_tools.verification.comparison import Tokens
from server.config import SamplingParameters
from server.engine.distribution import Row
from server.engine.sampling import Sampler
from server.model.candidates import Candidates

NUCLEUS = SamplingParameters(temperature=0.8, top_p=0.95)
"""Of random weights nearly every row is fetched: the most that draws can cost."""
NARROW_NUCLEUS = replace(NUCLEUS, top_k=40)
"""Which the candidates always decide."""
FLAT = SamplingParameters(temperature=2.0)
"""Which they never do."""
DRAWN = (
    NARROW_NUCLEUS,
    NUCLEUS,
    SamplingParameters(temperature=0.7),
    SamplingParameters(temperature=1.0, min_p=0.05),
    SamplingParameters(temperature=0.8, top_k=40, repetition_penalty=1.1),
    FLAT,
)
"""One for each way in which candidates decide, or do not."""


def in_words(sampling: SamplingParameters) -> str:
    """What was asked for, but for the seed."""
    default = SamplingParameters(seed=sampling.seed)
    names = [field.name for field in fields(sampling)]
    asked = [name for name in names if getattr(sampling, name) != getattr(default, name)]
    words = [f"{name.replace('_', '-')} {getattr(sampling, name):g}" for name in asked]
    return ", ".join(words) or "greedy"


@dataclass(slots=True)
class Tally:
    """Of rows of which a device told candidates."""

    rows: int = 0
    fetched: int = 0
    """Those that were fetched whole, since the candidates left the choice open."""
    differing: int = 0
    """Those from which another token was chosen than from the whole row."""

    def __str__(self) -> str:
        return f"{self.fetched} of {self.rows} rows fetched whole"


class CountingSampler(Sampler):
    """Counts the rows that it fetches."""

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
    """Chooses from each whole row as well, as on the CPU. The parameters have a seed."""

    def __init__(self, parameters: SamplingParameters, prompt: Tokens, tally: Tally) -> None:
        super().__init__(parameters, prompt, tally)
        self._of_rows = Sampler(parameters, prompt)

    def choose_among(self, candidates: Candidates) -> int | None:
        token = super().choose_among(candidates)
        self._tally.differing += token != self._of_rows.choose(candidates.whole())
        return token
