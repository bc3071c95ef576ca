"""Logits to tokens. Knows arrays and parameters, nothing of sequences or clients.

The order is llama.cpp's, as Paddler has it: repetition penalty, top-k, top-p, min-p, temperature,
draw.
"""

import math

import numpy as np
from numpy.typing import NDArray

from server.config import SamplingParameters
from server.engine.decoder import Rows
from server.engine.distribution import Row, draw, draw_from_all, keep
from server.engine.lookup import Draft
from server.engine.shortlist import certain_token, penalised
from server.model.candidates import Candidates


class Sampler:
    """Chooses the tokens of one sequence. The generator is its own: a seed gives the same tokens
    whatever else runs."""

    def __init__(self, parameters: SamplingParameters, prompt: NDArray[np.int64]) -> None:
        self._parameters = parameters
        self._random = np.random.default_rng(parameters.seed)
        self._seen = np.unique(prompt)

    def choose(self, row: Row) -> int | None:
        """The next token from logits [V], which the penalty changes in place.

        None where the logits are no numbers: the model has failed.
        """
        if self._parameters.repetition_penalty != 1:
            self._penalise(row)
        best = int(row.argmax())  # a NaN counts as the largest
        if not math.isfinite(row[best]):
            return None
        greedy = self._parameters.temperature == 0
        token = best if greedy else self._draw(row, self._random.random())
        if self._parameters.repetition_penalty != 1:
            self._note(token)
        return token

    def choose_among(self, candidates: Candidates) -> int | None:
        """What `choose` would choose from the whole row, which is only fetched where the candidates
        leave that open."""
        if not math.isfinite(candidates.log_sum_exp):
            return None
        parameters = self._parameters
        chance = self._random.random() if parameters.temperature else 0.0
        token = certain_token(candidates, parameters, self._seen, chance)
        if token is None:
            row = candidates.whole()
            if parameters.repetition_penalty != 1:
                self._penalise(row)
            token = self._draw(row, chance) if parameters.temperature else int(row.argmax())
        if parameters.repetition_penalty != 1:
            self._note(token)
        return token

    def _note(self, token: int) -> None:
        if token not in self._seen:
            self._seen = np.append(self._seen, token)

    def _penalise(self, row: Row) -> None:
        row[self._seen] = penalised(row[self._seen], self._parameters.repetition_penalty)

    def _draw(self, row: Row, chance: float) -> int:
        kept = keep(row, self._parameters)
        if kept is None:
            return draw_from_all(row, self._parameters.temperature, chance)
        kept = np.sort(kept)
        return int(kept[draw(row[kept], self._parameters.temperature, chance)])


def sample(rows: Rows, samplers: list[Sampler]) -> list[int | None]:
    """The next token for each row, by the sampler at its index; more samplers than rows are left
    alone. None where the logits are no numbers: the model has failed."""
    if isinstance(rows, np.ndarray):
        return [sampler.choose(row) for sampler, row in zip(samplers, rows, strict=False)]
    return [sampler.choose_among(row) for sampler, row in zip(samplers, rows, strict=False)]


def verify(rows: Rows, draft: Draft, sampler: Sampler) -> list[int | None]:
    """The next tokens, from n + 1 rows: of the newest token and of the n of the draft.

    Each token is chosen as it would be without the draft, which only says whether the logits that
    follow are there: at the first choice that is not the draft's, they are those of another text.
    """
    chosen: list[int | None] = []
    for row, drafted in zip(rows, (*draft, None), strict=True):
        told = isinstance(row, Candidates)
        chosen.append(sampler.choose_among(row) if told else sampler.choose(row))
        if chosen[-1] != drafted:
            break
    return chosen
