"""Rotary position embedding as GroupQueryAttention wants it. Knows numpy and the decoder's spec."""

import numpy as np

from model_tools.decoder_spec import RotarySpec, Weights


def half_rotated(rows: Weights, head_dim: int, dimensions: int) -> Weights:
    """Rows of q or k [heads * head_dim, inputs], from interleaved order to half-rotated order.

    Pair j of a head is rows 2j and 2j + 1 in the source, and rows j and j + dimensions / 2 in the
    result; rows past `dimensions` do not rotate and stay.
    """
    heads = rows.reshape(-1, head_dim, rows.shape[1])
    rotating, still = heads[:, :dimensions], heads[:, dimensions:]
    ordered = np.concatenate([rotating[:, 0::2], rotating[:, 1::2], still], axis=1)
    return ordered.reshape(rows.shape)


def interleaved(rows: Weights, head_dim: int, dimensions: int) -> Weights:
    """The way back from `half_rotated`."""
    heads = rows.reshape(-1, head_dim, rows.shape[1]).copy()
    halves = heads[:, :dimensions].reshape(len(heads), 2, dimensions // 2, -1)
    heads[:, :dimensions] = halves.swapaxes(1, 2).reshape(len(heads), dimensions, -1)
    return heads.reshape(rows.shape)


def cosines_and_sines(rotary: RotarySpec, positions: int) -> tuple[Weights, Weights]:
    """Two float32 tables [positions, dimensions / 2], computed in float64."""
    angles = np.outer(np.arange(positions, dtype=np.float64), rotary.frequencies())
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
