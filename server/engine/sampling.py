"""Logits to tokens. Knows arrays and parameters, nothing of sequences or clients.

The order is llama.cpp's, as Paddler has it: repetition penalty, top-k, top-p, min-p, temperature,
draw. Filters see probabilities at temperature 1; equal logits rank by id, the lower one first.
Only what can be drawn is sorted: see `_largest`.
"""

import numpy as np
from numpy.typing import NDArray

from server.config import SamplingParameters

Row = NDArray[np.float32]
Ids = NDArray[np.intp]

_BLOCK = 64
_FIRST_GUESS = 64
"""Candidates that a search for the top-p set begins with; it grows eightfold."""


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
        if not np.isfinite(row[best]):
            return None
        token = best if self._parameters.temperature == 0 else self._draw(row)
        if self._parameters.repetition_penalty != 1 and token not in self._seen:
            self._seen = np.append(self._seen, token)
        return token

    def _penalise(self, row: Row) -> None:
        """Keskar et al. 2019, with the sign rule that `transformers` and llama.cpp share."""
        penalty = np.float32(self._parameters.repetition_penalty)
        logits = row[self._seen]
        row[self._seen] = np.where(logits > 0, logits / penalty, logits * penalty)

    def _draw(self, row: Row) -> int:
        """One draw by inverse distribution function, over the kept tokens in order of their ids."""
        kept = np.sort(keep(row, self._parameters))
        logits = row[kept].astype(np.float64)
        weights = np.exp((logits - logits.max()) / self._parameters.temperature)
        bounds = np.cumsum(weights)
        place = np.searchsorted(bounds, self._random.random() * bounds[-1], side="right")
        return int(kept[min(place, len(kept) - 1)])


def sample(logits: NDArray[np.float32], samplers: list[Sampler]) -> list[int | None]:
    """The next token for each row of logits [n, V], by the sampler at its index; more samplers than
    rows are left alone. None where the logits are no numbers: the model has failed."""
    return [sampler.choose(row) for sampler, row in zip(samplers, logits, strict=False)]


def keep(row: Row, parameters: SamplingParameters) -> Ids:
    """Ids that pass top-k, top-p and min-p, in no particular order."""
    kept = np.arange(len(row))
    if 0 < parameters.top_k < len(row):
        kept = _largest(row, parameters.top_k)
    if parameters.top_p < 1:
        kept = _top_p(row, kept, parameters.top_p)
    if parameters.min_p > 0:
        logits = row[kept]
        kept = kept[logits >= logits.max() + np.log(parameters.min_p)]
    return kept


def _top_p(row: Row, kept: Ids, top_p: float) -> Ids:
    """The fewest of the kept tokens, most probable first, whose share of them reaches `top_p`."""
    logits = row[kept]
    peak = logits.max()
    wanted = top_p * np.exp(logits - peak).sum(dtype=np.float64)
    count = _FIRST_GUESS
    while True:
        best = _largest(logits, min(count, len(logits)))
        reached = np.cumsum(np.exp(logits[best] - peak), dtype=np.float64)
        if reached[-1] >= wanted or count >= len(logits):
            return kept[best[: int(np.searchsorted(reached, wanted)) + 1]]
        count *= 8


def _largest(row: Row, count: int) -> Ids:
    """Indices of the `count` largest values, largest first, of equal ones the lower index first.

    At least `count` values reach the `count`-th largest maximum of blocks, so that one pass over
    the row and a sort of few candidates replace a selection over the whole row.
    """
    blocks = len(row) // _BLOCK
    if count < blocks:
        maxima = row[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
        threshold = np.partition(maxima, blocks - count)[blocks - count]
        candidates = np.flatnonzero(row >= threshold)
    else:
        candidates = np.arange(len(row))
    order = np.argsort(-row[candidates], kind="stable")
    return candidates[order[:count]]
