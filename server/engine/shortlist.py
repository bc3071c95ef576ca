"""What a sampler would choose from a whole row, found in the row's candidates alone: exact, or not
told.

Any logit that is not among the candidates is no larger than the smallest of them, their floor. So
all logits above the floor are known, and of the others their number of nats together. A penalty
of 1 or more only lowers logits, which leaves both true. A filter is decided where its bound lies
above the floor, and a draw where every way in which the unknown logits may lie between the known
ones gives the same token.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.config import SamplingParameters
from server.engine.distribution import Row, draw_of_few, largest, passing, usable, weights_of
from server.model.candidates import Candidates

_SLACK = 1e-4
"""Share of all probability by which sums may be off. Float32 sums, here and on a device, are off by
less than 2e-5."""
_LARGEST_EXPONENT = 80.0
_HARDEST = 1e30
"""A penalty beyond it is as hard: it leaves nothing of a logit, and products would be infinite."""


def penalised(logits: Row, penalty: float) -> Row:
    """Keskar et al. 2019, with the sign rule that `transformers` and llama.cpp share."""
    factor = _factor(penalty)
    lower = np.minimum if penalty > 1 else np.maximum
    result: Row = lower(logits / factor, logits * factor)
    return result


@functools.lru_cache
def _factor(penalty: float) -> np.float32:
    return np.float32(min(max(penalty, 1 / _HARDEST), _HARDEST))


def certain_token(
    candidates: Candidates, parameters: SamplingParameters, seen: NDArray[np.int64], chance: float
) -> int | None:
    """The token for `chance`, which has no meaning where the temperature is 0; None where the
    candidates leave it open. `seen` are the ids under the penalty."""
    penalty = parameters.repetition_penalty
    logits = candidates.logits
    if parameters.temperature == 0 and penalty == 1 and len(logits) > 1 and logits[0] > logits[1]:
        return int(candidates.ids[0])
    if penalty < 1:
        return None  # what was seen rises, wherever it was
    known = _Known.of(candidates, parameters, seen)
    if known is None:
        return None
    if parameters.temperature == 0:
        return int(known.ids[known.logits.argmax()])
    if parameters.top_k == 0 and parameters.top_p >= 1 and parameters.min_p == 0:
        return known.drawn_from_all(parameters.temperature, chance)
    return known.drawn_of_few(parameters, chance)


@dataclass(frozen=True, slots=True)
class _Known:
    """All logits above `floor`, under the penalty, by rising id: one at least."""

    ids: NDArray[np.int64]
    logits: Row
    floor: float
    rest: tuple[float, float]
    """Bounds of the sum of exp(logit - peak) over all others, the peak being the largest logit."""

    @classmethod
    def of(
        cls, candidates: Candidates, parameters: SamplingParameters, seen: NDArray[np.int64]
    ) -> "_Known | None":
        logits, floor = candidates.logits, candidates.logits[-1]
        under_penalty = parameters.repetition_penalty != 1
        if under_penalty:
            lowered = penalised(logits, parameters.repetition_penalty)
            logits = np.where(np.isin(candidates.ids, seen), lowered, logits)
        above = np.flatnonzero(logits > floor)
        if not len(above):
            return None
        by_id = above[np.argsort(candidates.ids[above])]
        highest, peak = float(candidates.logits[0]), float(logits[above].max())
        if highest - peak > _LARGEST_EXPONENT:
            return None
        whole = math.exp(candidates.log_sum_exp - highest)
        raw = np.exp(candidates.logits[above] - candidates.logits[0]).sum(dtype=np.float64)
        # A sum far from 0 is only as exact as its float32.
        slack = (_SLACK + float(np.spacing(np.float32(abs(candidates.log_sum_exp))))) * whole
        most = max(whole - float(raw), 0.0) + slack
        least = 0.0 if under_penalty else max(most - 2 * slack, 0.0)
        scale = math.exp(highest - peak)
        rest = (least * scale, most * scale)
        return cls(candidates.ids[by_id], logits[by_id], float(floor), rest)

    def drawn_of_few(self, parameters: SamplingParameters, chance: float) -> int | None:
        """`draw_of_few`, where all sums that are possible leave the same ones."""
        if parameters.top_k > len(self.ids):
            return None
        places, logits = largest(self.logits, parameters.top_k or len(self.ids))
        weights = [math.exp(logit - logits[0]) for logit in logits]
        known, rest, beyond = sum(weights), self.rest, math.exp(self.floor - logits[0])
        if parameters.top_k:
            rest, beyond = (0.0, 0.0), 0.0
        ends = {passing(weights, parameters, known + each, beyond) for each in rest}
        end = ends.pop()
        if ends or end is None:
            return None
        drawn = draw_of_few(logits[:end], parameters.temperature, chance)
        return int(self.ids[places[drawn]])

    def drawn_from_all(self, temperature: float, chance: float) -> int | None:
        """`draw_from_all`, where the others, before or behind, change nothing."""
        if temperature > 1:
            return None  # how far the others rise together depends on each of them
        peak = float(self.logits.max())
        # Each of the others falls at least as far as one at the floor would.
        cold = float(usable(temperature))
        fall = 1.0 if temperature == 1 else math.exp((self.floor - peak) * (1 / cold - 1))
        others = self.rest[1] * fall
        bounds = np.cumsum(weights_of(self.logits, temperature), dtype=np.float64)
        known = float(bounds[-1])
        slack = _SLACK * (known + others)
        low = chance * known - (1 - chance) * others - slack
        high = chance * (known + others) + slack
        if low < 0 or high >= known:
            return None
        first, last = np.searchsorted(bounds, (low, high), side="right")
        return int(self.ids[first]) if first == last else None
