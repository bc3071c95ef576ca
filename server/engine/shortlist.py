"""The token that a sampler would choose from a whole row, found from the row's candidates alone:
exact, or left open.

Any logit that is not among the candidates is no larger than the smallest of them, their floor. So
all logits above the floor are known, and of the others the sum of their exponentials. A penalty of
1 or more only lowers logits: those above the floor are still known, and the sum of the others is
bounded from above. A filter is decided if its cutoff lies above the floor, and a draw if it gives
the same token wherever the unknown logits lie between the known ones.

A step on a GPU is over before NumPy has processed the few candidates of many rows: they are Python
numbers, as in `distribution`.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import accumulate
from operator import gt, neg

import numpy as np

from server.config import SamplingParameters
from server.engine.distribution import draw_of_few, factor_of, passing, usable
from server.model.candidates import Candidates

_SLACK = 1e-4
"""Share of all probability by which sums may be off. Float32 sums, here and on a device, are off by
less than 2e-5."""
_LARGEST_EXPONENT = 80.0
_NO_REST = (0.0, 0.0)


def certain_token(
    candidates: Candidates, parameters: SamplingParameters, seen: Set[int], chance: float
) -> int | None:
    """The token drawn at `chance`, which is unused at temperature 0; None if the candidates leave
    it open. `seen` are the ids that the penalty applies to."""
    if parameters.repetition_penalty < 1:
        return None  # seen tokens rise, also those below the floor
    if parameters.temperature == 0 and parameters.repetition_penalty == 1:
        return candidates.best
    known = _Known.of(candidates, parameters.repetition_penalty, seen)
    if not known.ids:
        return None
    if parameters.temperature == 0:
        return known.ids[0]
    if parameters.top_k == 0 and parameters.top_p >= 1 and parameters.min_p == 0:
        return known.drawn_from_all(parameters.temperature, chance)
    return known.drawn_of_few(parameters, chance)


@dataclass(frozen=True, slots=True)
class _Known:
    """All logits above the floor, after the penalty: the largest first, of equal ones the lower id
    first."""

    ids: Sequence[int]
    logits: Sequence[float]
    raw: Sequence[float]
    """The same logits before the penalty."""
    highest: float
    """The largest logit before the penalty."""
    floor: float
    log_sum_exp: float
    under_penalty: bool

    @classmethod
    def of(cls, candidates: Candidates, penalty: float, seen: Set[int]) -> "_Known":
        ids, raw = candidates.ids.tolist(), candidates.logits.tolist()
        highest, floor = raw[0], raw[-1]
        logits = raw
        if penalty > 1 and not seen.isdisjoint(ids):
            logits = _lowered(ids, raw, penalty, seen)
            order = sorted(range(len(ids)), key=logits.__getitem__, reverse=True)
            ids, logits, raw = _in_order(order, ids, logits, raw)
        if not all(map(gt, logits, logits[1:])):  # some are equal
            order = sorted(range(len(ids)), key=lambda index: (-logits[index], ids[index]))
            ids, logits, raw = _in_order(order, ids, logits, raw)
        count = bisect_left(logits, -floor, key=neg)  # of those above the floor
        known = ids[:count], logits[:count], raw[:count]
        return cls(*known, highest, floor, candidates.log_sum_exp, penalty > 1)

    def drawn_of_few(self, parameters: SamplingParameters, chance: float) -> int | None:
        """`draw_of_few`, if all totals that are possible leave the same tokens to draw from."""
        top_k = parameters.top_k
        if top_k > len(self.ids):
            return None
        logits = self.logits[:top_k] if top_k else self.logits
        rest = _NO_REST if top_k else self._rest()
        if rest is None:
            return None
        beyond = 0.0 if top_k else math.exp(self.floor - logits[0])
        weights = [math.exp(logit - logits[0]) for logit in logits]
        known = sum(weights)
        ends = {passing(weights, parameters, known + each, beyond) for each in {*rest}}
        end = ends.pop()
        if ends or end is None:
            return None
        return self.ids[draw_of_few(logits[:end], parameters.temperature, chance)]

    def drawn_from_all(self, temperature: float, chance: float) -> int | None:
        """`draw_from_all`, if it makes no difference where the others lie in the order of ids."""
        if temperature > 1:
            return None  # how far the others rise together depends on each of them
        rest = self._rest()
        if rest is None:
            return None
        peak = self.logits[0]
        # Each of the others falls at least as far as one at the floor would.
        cold = float(usable(temperature))
        fall = 1.0 if temperature == 1 else math.exp((self.floor - peak) * (1 / cold - 1))
        others = rest[1] * fall
        weights = [math.exp((logit - peak) / cold) for logit in self.logits]
        known = sum(weights)
        slack = _SLACK * (known + others)
        low = chance * known - (1 - chance) * others - slack
        high = chance * (known + others) + slack
        if low < 0 or high >= known:
            return None
        by_id = sorted(zip(self.ids, weights, strict=True))
        bounds = list(accumulate(weight for _, weight in by_id))
        first, last = bisect_right(bounds, low), bisect_right(bounds, high)
        return by_id[first][0] if first == last < len(by_id) else None

    def _rest(self) -> tuple[float, float] | None:
        """Bounds of the sum of exp(logit - peak) over all others, the peak being the largest logit
        after the penalty. None if the penalty lowered it so far that the sum says nothing."""
        fallen = self.highest - self.logits[0]
        if fallen > _LARGEST_EXPONENT:
            return None
        whole = math.exp(self.log_sum_exp - self.highest)
        known = sum(math.exp(logit - self.highest) for logit in self.raw)
        # A sum far from 0 is only as exact as its float32.
        slack = (_SLACK + float(np.spacing(np.float32(abs(self.log_sum_exp))))) * whole
        most = max(whole - known, 0.0) + slack
        least = 0.0 if self.under_penalty else max(most - 2 * slack, 0.0)
        scale = math.exp(fallen)
        return least * scale, most * scale


def _in_order(
    order: Sequence[int], ids: list[int], logits: list[float], raw: list[float]
) -> tuple[list[int], list[float], list[float]]:
    return (
        [ids[index] for index in order],
        [logits[index] for index in order],
        [raw[index] for index in order],
    )


def _lowered(
    ids: Sequence[int], logits: Sequence[float], penalty: float, seen: Set[int]
) -> list[float]:
    """Logits after the penalty, bit-identical to those of `penalised`."""
    factor = float(factor_of(penalty))
    exact = [
        logit if token not in seen else logit / factor if logit > 0 else logit * factor
        for token, logit in zip(ids, logits, strict=True)
    ]
    return array("f", exact).tolist()
