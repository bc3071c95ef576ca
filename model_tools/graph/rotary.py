"""Rotary position embedding as GroupQueryAttention wants it. Knows numpy and the decoder's spec."""

import numpy as np

from model_tools.decoder_spec import RotarySpec, Weights


def half_rotated(rows: Weights, head_dim: int) -> Weights:
    """Rows of q or k [heads * head_dim, inputs], from interleaved order to half-rotated order.

    Pair j of a head is rows 2j and 2j + 1 in the source, and rows j and j + head_dim / 2 in the
    result.
    """
    pairs = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def interleaved(rows: Weights, head_dim: int) -> Weights:
    """The inverse of `half_rotated`."""
    halves = rows.reshape(-1, 2, head_dim // 2, rows.shape[1])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def cosines_and_sines(rotary: RotarySpec, positions: int) -> tuple[Weights, Weights]:
    """Two float32 tables [positions, head_dim / 2], computed in float64."""
    angles = np.outer(np.arange(positions, dtype=np.float64), rotary.frequencies())
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
