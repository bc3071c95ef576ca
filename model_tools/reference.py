"""A decoder's logits in plain numpy, straight from a source's weights: what graphs are measured by.

Knows the mathematics of a Llama-shaped decoder. Shares nothing with the graph: no fused or
quantised matrix, and queries and keys stay in the row order of the source, where the two dimensions
of a rotary pair are neighbours, so that a pair is one complex number.
"""

from collections.abc import Iterator, Sequence

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


def reference_logits(source: WeightSource, texts: Sequence[Tokens]) -> Iterator[Rows]:
    """The float32 logits [n, vocabulary] after each of a text's n tokens, text by text.

    All texts go through a layer before the next layer is read, and logits are computed when they
    are asked for: one layer's weights and one text's logits are in memory at a time.
    """
    spec = source.spec
    ends = np.cumsum([len(text) for text in texts])
    turns = _turns(spec.rotary, max(map(len, texts)))
    hidden = source.embedding()[np.concatenate(texts)]
    for layer in each_layer(source):
        normal = _normalise(hidden, layer.attention_norm, spec.rms_epsilon)
        attended = [_attention(spec, layer, text, turns) for text in np.split(normal, ends[:-1])]
        hidden = hidden + np.concatenate(attended) @ layer.o.T
        normal = _normalise(hidden, layer.feed_forward_norm, spec.rms_epsilon)
        hidden = hidden + _feed_forward(layer, normal)
    hidden = _normalise(hidden, source.final_norm(), spec.rms_epsilon)
    head = source.head()
    for text in np.split(hidden, ends[:-1]):
        yield text @ head.T


def _normalise(hidden: Rows, weight: Weights, epsilon: float) -> Rows:
    mean_square = np.mean(np.square(hidden), axis=-1, keepdims=True)
    normal: Rows = hidden / np.sqrt(mean_square + np.float32(epsilon)) * weight
    return normal


def _turns(rotary: RotarySpec, positions: int) -> NDArray[np.complex64]:
    """The factor of each pair at each position, [positions, 1 for all heads, dimensions / 2]."""
    angles = np.arange(positions)[:, None, None] * rotary.frequencies()
    turns: NDArray[np.complex64] = np.exp(1j * angles).astype(np.complex64)
    return turns


def _rotate(heads: Rows, turns: NDArray[np.complex64]) -> Rows:
    """Turns the leading pairs of heads [n, heads, head_dim], a text's n tokens from its start."""
    pairs = turns.shape[-1]
    rotated = heads.copy()
    rotated.view(np.complex64)[..., :pairs] *= turns[: len(heads)]
    return rotated


def _attention(
    spec: DecoderSpec, layer: LayerWeights, text: Rows, turns: NDArray[np.complex64]
) -> Rows:
    """What each token of one text sees of the tokens up to itself, before the output matrix."""
    count, group = len(text), spec.attention_heads // spec.kv_heads
    by_head = (count, -1, spec.head_dim)
    queries = _rotate((text @ layer.q.T).reshape(by_head), turns)
    keys = _rotate((text @ layer.k.T).reshape(by_head), turns)
    values = (text @ layer.v.T).reshape(by_head)
    # Heads first, and each key and value head repeated for the query heads of its group.
    queries = queries.transpose(1, 0, 2)
    keys, values = (np.repeat(each.transpose(1, 0, 2), group, axis=0) for each in (keys, values))
    scores = queries @ keys.transpose(0, 2, 1) / np.float32(np.sqrt(spec.head_dim))
    scores[:, *np.triu_indices(count, k=1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    attended: Rows = weights @ values
    return attended.transpose(1, 0, 2).reshape(count, -1)


def _feed_forward(layer: LayerWeights, normal: Rows) -> Rows:
    gate = normal @ layer.gate.T
    # x * sigmoid(x), by way of tanh, which cannot overflow.
    activated = gate * (np.float32(0.5) * (1 + np.tanh(gate / 2)))
    return (activated * (normal @ layer.up.T)) @ layer.down.T
