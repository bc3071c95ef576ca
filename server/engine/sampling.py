"""Chooses tokens from logits. Knows arrays and parameters; does not know sequences or clients.

The order is llama.cpp's, as in Paddler: repetition penalty, top-k, top-p, min-p, temperature,
draw.
"""

import logging
import math
import random

import numpy as np
from numpy.typing import NDArray

from server.config import SamplingParameters
from server.engine.decoder import Rows
from server.engine.distribution import Row, draw, penalised
from server.engine.lookup import Draft
from server.engine.shortlist import certain_token
from server.errors import DeviceLost, Interrupted
from server.model.candidates import Candidates

log = logging.getLogger(__name__)


class Sampler:
    """Chooses the tokens of one sequence. It has a random generator of its own: a seed gives the
    same tokens whatever else runs."""

    def __init__(self, parameters: SamplingParameters, prompt: NDArray[np.int64]) -> None:
        self._parameters = parameters
        self._random = random.Random(parameters.seed)  # noqa: S311 no secret
        self._penalises = parameters.repetition_penalty != 1
        self._seen = _Seen(prompt if self._penalises else _NO_IDS)

    def choose(self, row: Row) -> int | None:
        """The next token from logits [V], which the penalty changes in place.

        None if the largest logit is not finite: the model has failed.
        """
        return self._noted(self._chosen(row, self._chance()))

    def choose_among(self, candidates: Candidates) -> int | None:
        """The token that `choose` would choose from the whole row, which is only fetched if the
        candidates leave that open."""
        if not math.isfinite(candidates.log_sum_exp):
            return None
        chance = self._chance()
        token = certain_token(candidates, self._parameters, self._seen.tokens, chance)
        return self._noted(self._chosen(candidates.whole(), chance) if token is None else token)

    def _chance(self) -> float:
        """A number in [0, 1) to draw at; unused at temperature 0."""
        return self._random.random() if self._parameters.temperature else 0.0

    def _chosen(self, row: Row, chance: float) -> int | None:
        if self._penalises:
            ids = self._seen.ids
            row[ids] = penalised(row[ids], self._parameters.repetition_penalty)
        if self._parameters.temperature:
            return draw(row, self._parameters, chance)
        best = int(row.argmax())  # a NaN counts as the largest
        return best if math.isfinite(row[best]) else None

    def _noted(self, token: int | None) -> int | None:
        if self._penalises and token is not None:
            self._seen.add(token)
        return token


_NO_IDS = np.empty(0, np.int64)


class _Seen:
    """The tokens that the repetition penalty applies to."""

    def __init__(self, prompt: NDArray[np.int64]) -> None:
        self.ids = self._room = np.unique(prompt)
        """Each token once, in any order."""
        self.tokens = set(self.ids.tolist())
        """The same as a set."""

    def add(self, token: int) -> None:
        if token in self.tokens:
            return
        self.tokens.add(token)
        count = len(self.ids)
        if count == len(self._room):
            self._room = np.concatenate([self.ids, np.empty(count + 64, np.int64)])
        self._room[count] = token
        self.ids = self._room[: count + 1]


def sample(rows: Rows, samplers: list[Sampler]) -> list[int | None]:
    """The next token for each row, by the sampler at its index; further samplers are not used. None
    if the largest logit is not finite, or the choice failed."""
    return [_next_token(sampler, row) for sampler, row in zip(samplers, rows, strict=False)]


def verify(rows: Rows, draft: Draft, sampler: Sampler) -> list[int | None]:
    """The next tokens, from n + 1 rows: that of the newest token and those of the draft's n tokens.

    Each token is chosen as it would be without the draft. The draft only decides whether the next
    row is usable: after the first choice that differs from it, the row belongs to another text.
    """
    chosen: list[int | None] = []
    for row, drafted in zip(rows, (*draft, None), strict=True):
        chosen.append(_next_token(sampler, row))
        if chosen[-1] != drafted:
            break
    return chosen


def _next_token(sampler: Sampler, row: Row | Candidates) -> int | None:
    """None if the choice fails, which then affects this row only."""
    try:
        return sampler.choose_among(row) if isinstance(row, Candidates) else sampler.choose(row)
    except (Interrupted, DeviceLost):
        raise
    except Exception:
        log.exception("a token could not be chosen")
        return None
