import math

import numpy as np
import pytest

from model_tools.verification.comparison import Comparison, measure

FOLLOWING = np.array([2, 0])


def logits(*probabilities: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Their logarithms plus a constant, which changes nothing."""
    return np.log(np.array(probabilities, np.float32)) + 7


def test_equal_logits_agree_in_all() -> None:
    rows = logits([0.5, 0.3, 0.2], [0.1, 0.8, 0.1])
    outcome = Comparison.of([measure(rows, rows, FOLLOWING)])
    assert outcome.tokens == 2
    assert outcome.mean_kl == 0
    assert outcome.top1_agreement == 1
    assert outcome.perplexity == outcome.reference_perplexity


def test_the_numbers_are_those_of_their_definitions() -> None:
    reference = logits([0.5, 0.3, 0.2], [0.25, 0.5, 0.25])
    graph = logits([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])
    outcome = Comparison.of([measure(reference, graph, FOLLOWING)])
    divergence = 0.5 * math.log(2) + 0.3 * math.log(0.6) + 0.2 * math.log(0.8)
    assert outcome.mean_kl == pytest.approx(divergence / 2, rel=1e-5)
    assert outcome.top1_agreement == 0.5
    assert outcome.perplexity == pytest.approx(4)
    assert outcome.reference_perplexity == pytest.approx((0.2 * 0.25) ** -0.5)


def test_parts_count_by_their_tokens() -> None:
    reference = logits([0.5, 0.3, 0.2], [0.25, 0.5, 0.25], [0.1, 0.1, 0.8])
    graph = logits([0.2, 0.5, 0.3], [0.3, 0.2, 0.5], [0.6, 0.2, 0.2])
    following = np.array([0, 1, 2])
    whole = measure(reference, graph, following)
    parts = [measure(reference[:1], graph[:1], following[:1]), whole[1:]]
    assert Comparison.of(parts) == Comparison.of([whole])


def test_logits_too_large_for_an_exponential_are_no_matter() -> None:
    rows = np.array([[1e4, -1e4, 0]], np.float32)
    outcome = Comparison.of([measure(rows, rows, np.array([0]))])
    assert outcome.mean_kl == 0
    assert outcome.perplexity == 1
