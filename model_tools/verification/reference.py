"""A decoder's logits in plain numpy, straight from a source's weights, to compare graphs with.

Knows the mathematics of a Llama-shaped decoder. Shares nothing with the graph: no fused or
quantised matrix, and queries and keys stay in the row order of the source, where the two dimensions
of a rotary pair are neighbours, so that a pair is one complex number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_tools.decoder_spec import (
    DecoderSpec,
    LayerWeights,
    RotarySpec,
    Weights,
    WeightSource,
    each_layer,
)

Tokens = NDArray[np.int64]
Rows = NDArray[np.float32]
"""One row for each token."""


Rounding = Callable[[Rows], Rows]
"""Rounds to a narrower type of floats and back."""


def exact(rows: Rows) -> Rows:
    return rows


@dataclass(frozen=True, slots=True)
class LayerRun:
    """One layer over all tokens of all texts: what its matrices read, and its output."""

    attention_input: Rows
    """Read by q, k and v."""
    keys: Rows
    """After their rotation, [n, kv_heads * head_dim]."""
    values: Rows
    """[n, kv_heads * head_dim]."""
    attended: Rows
    """Read by o, [n, attention_heads * head_dim]."""
    feed_forward_input: Rows
    """Read by gate and up."""
    gated: Rows
    """Read by down."""
    output: Rows


def reference_logits(
    source: WeightSource, texts: Sequence[Tokens], rounded: Rounding = exact
) -> Iterator[Rows]:
    """Yields each text's float32 logits [n, vocabulary], one row after each of its n tokens.

    All texts go through a layer before the next layer is read, and logits are computed when they
    are asked for: one layer's weights and one text's logits are in memory at a time.
    """
    for run in run_layers(source, texts, rounded):
        hidden = run.output
    hidden = rounded(normalise(hidden, source.final_norm(), source.spec.rms_epsilon))
    head = source.head()
    for text in np.split(hidden, _ends(texts)):
        yield rounded(text @ head.T)


def run_layers(
    source: WeightSource, texts: Sequence[Tokens], rounded: Rounding = exact
) -> Iterator[LayerRun]:
    """Yields each layer in turn. Texts are independent, each from position 0. Applies `rounded` to
    whatever a graph of narrower floats would store between its operators."""
    spec = source.spec
    rotations = _rotations(spec.rotary, max(map(len, texts)))
    hidden = source.embedding()[np.concatenate(texts)]
    for layer in each_layer(source):
        inputs = rounded(normalise(hidden, layer.attention_norm, spec.rms_epsilon))
        keys, values, attended = (
            np.concatenate(rows)
            for rows in zip(
                *(
                    _attention(spec, layer, text, rotations, rounded)
                    for text in np.split(inputs, _ends(texts))
                ),
                strict=True,
            )
        )
        hidden = rounded(hidden + rounded(attended @ layer.o.T))
        normal = rounded(normalise(hidden, layer.feed_forward_norm, spec.rms_epsilon))
        gated = _gated(layer, normal, rounded)
        hidden = rounded(hidden + rounded(gated @ layer.down.T))
        yield LayerRun(inputs, keys, values, attended, normal, gated, hidden)


def _ends(texts: Sequence[Tokens]) -> NDArray[np.int64]:
    """The offsets at which all texts but the last end, among the tokens of all."""
    return np.cumsum([len(text) for text in texts[:-1]], dtype=np.int64)


def normalise(hidden: Rows, weight: Weights, epsilon: float) -> Rows:
    mean_square = np.mean(np.square(hidden), axis=-1, keepdims=True)
    root: Rows = np.sqrt(mean_square + np.float32(epsilon))
    normal: Rows = hidden / root * weight
    return normal


def _rotations(rotary: RotarySpec, positions: int) -> NDArray[np.complex64]:
    """The factor of each pair at each position, [positions, 1 for all heads, head_dim / 2]."""
    angles = np.arange(positions)[:, None, None] * rotary.frequencies()
    rotations: NDArray[np.complex64] = np.exp(1j * angles).astype(np.complex64)
    return rotations


def _rotate(heads: Rows, rotations: NDArray[np.complex64]) -> Rows:
    """Rotates the pairs of heads [n, heads, head_dim] of a text's n tokens."""
    rotated: NDArray[np.complex64] = heads.view(np.complex64) * rotations[: len(heads)]
    return rotated.view(np.float32)


def _attention(
    spec: DecoderSpec,
    layer: LayerWeights,
    text: Rows,
    rotations: NDArray[np.complex64],
    rounded: Rounding,
) -> tuple[Rows, Rows, Rows]:
    """Returns keys, values and causal attention over the tokens of one text, the last before the
    output matrix."""
    count, group = len(text), spec.attention_heads // spec.kv_heads
    by_head = (count, -1, spec.head_dim)
    queries = rounded(_rotate((text @ layer.q.T).reshape(by_head), rotations))
    keys = rounded(_rotate((text @ layer.k.T).reshape(by_head), rotations))
    values = rounded((text @ layer.v.T).reshape(by_head))
    # Heads first, and each key and value head repeated for the query heads of its group.
    queries = queries.transpose(1, 0, 2)
    seen, taken = (np.repeat(each.transpose(1, 0, 2), group, axis=0) for each in (keys, values))
    scores = queries @ seen.transpose(0, 2, 1) / np.float32(np.sqrt(spec.head_dim))
    scores[:, *np.triu_indices(count, k=1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    attended: Rows = rounded(weights @ taken).transpose(1, 0, 2)
    return keys.reshape(count, -1), values.reshape(count, -1), attended.reshape(count, -1)


def _gated(layer: LayerWeights, normal: Rows, rounded: Rounding) -> Rows:
    gate = rounded(normal @ layer.gate.T)
    # x * sigmoid(x), by way of tanh, which cannot overflow.
    half = np.float32(0.5)
    activated = gate * (half + half * np.tanh(half * gate))
    return rounded(rounded(activated) * rounded(normal @ layer.up.T))
