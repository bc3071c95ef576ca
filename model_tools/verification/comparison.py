"""How far one model's logits are from another's, in the usual numbers.

Knows numpy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Tokens = NDArray[np.int64]
Measures = NDArray[np.float64]
"""[n, 4], for n tokens: divergence, whether the top-1 agrees, loss, and the reference's loss."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How near a graph's next-token distributions are to the reference's, averaged over tokens."""

    tokens: int
    mean_kl: float
    """Kullback-Leibler divergence from the reference to the graph, in nats."""
    top1_agreement: float
    """Share of tokens for which both have the same most probable next token."""
    perplexity: float
    reference_perplexity: float

    @classmethod
    def of(cls, parts: Sequence[Measures]) -> "Comparison":
        measures = np.concatenate(parts)
        mean_kl, agreement, loss, reference_loss = measures.mean(axis=0)
        return cls(
            tokens=len(measures),
            mean_kl=float(mean_kl),
            top1_agreement=float(agreement),
            perplexity=float(np.exp(loss)),
            reference_perplexity=float(np.exp(reference_loss)),
        )

    def __str__(self) -> str:
        return (
            f"{self.tokens} tokens: mean KL {self.mean_kl:.2g}, "
            f"top-1 agreement {self.top1_agreement:.1%}, "
            f"perplexity {self.perplexity:.3f} (reference {self.reference_perplexity:.3f})"
        )


def measure(reference: Rows, logits: Rows, following: Tokens) -> Measures:
    """Compares logits [n, vocabulary]; `following` [n] are the tokens that come next."""
    expected, actual = _log_softmax(reference), _log_softmax(logits)
    rows = np.arange(len(following))
    return np.stack(
        [
            np.sum(np.exp(expected) * (expected - actual), axis=-1),
            expected.argmax(axis=-1) == actual.argmax(axis=-1),
            -actual[rows, following],
            -expected[rows, following],
        ],
        axis=-1,
    )


def _log_softmax(logits: Rows) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    normal: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normal
