"""Sampling as it is defined, in Python's own numbers: a full sort, a loop for each rule."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.config import SamplingParameters

SLACK = 1e-5
"""Shares may be off by this: the sampler works with float32."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The chances at which a token is drawn."""

    low: float
    high: float

    def has(self, chance: float) -> bool:
        return self.low - SLACK <= chance <= self.high + SLACK


def penalised(
    row: NDArray[np.float32], seen: Collection[int], penalty: float
) -> NDArray[np.float32]:
    """Each token that was seen once; logits stay float32."""
    result = row.copy()
    for token in set(seen):
        scale = 1 / penalty if row[token] > 0 else penalty
        result[token] = np.float32(float(row[token]) * scale)
    return result


def filters(width: int, parameters: SamplingParameters) -> bool:
    """Whether some tokens of so many cannot be drawn."""
    narrow = 0 < parameters.top_k < width
    return narrow or parameters.top_p < 1 or parameters.min_p > 0


def kept_tokens(row: Sequence[float], parameters: SamplingParameters) -> list[int]:
    """Ids that can be drawn, the largest logit first: top-k, then top-p, then min-p, all at
    temperature 1."""
    ranked = sorted(range(len(row)), key=lambda token: (-row[token], token))
    if parameters.top_k:
        ranked = ranked[: parameters.top_k]
    weights = [math.exp(row[token] - max(row)) for token in ranked]
    if parameters.top_p < 1:
        wanted, total, count = parameters.top_p * math.fsum(weights), 0.0, 0
        while count < len(ranked) and (total < wanted or not count):
            total += weights[count]
            count += 1
        ranked, weights = ranked[:count], weights[:count]
    return [
        token
        for token, weight in zip(ranked, weights, strict=True)
        if not parameters.min_p or weight >= parameters.min_p
    ]


def interval(
    row: Sequence[float], side_by_side: Sequence[int], temperature: float, token: int
) -> Interval:
    """Where `token` lies in [0, 1), which these share in this order."""
    peak = max(row)
    weights = [math.exp((row[each] - peak) / temperature) for each in side_by_side]
    total, place = math.fsum(weights), side_by_side.index(token)
    below = math.fsum(weights[:place])
    return Interval(below / total, (below + weights[place]) / total)
