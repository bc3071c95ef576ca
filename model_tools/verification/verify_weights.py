"""Compares a written folder's weights with its source's, where nothing here can run its graph.

Knows the written weights and the independent reference; knows no runtime.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_tools.decoder_spec import WeightSource
from model_tools.recipe import KvType, Recipe
from model_tools.verification.comparison import Comparison, Rows, Tokens, measure
from model_tools.verification.reference import reference_logits
from model_tools.verification.written_source import WrittenSource


@dataclass(frozen=True, slots=True)
class WeightsVerification:
    """The reference with a folder's weights, compared with the reference with its source's."""

    how: str
    """What was computed, and what was not."""
    weights: Comparison

    def __str__(self) -> str:
        return f"weights: {self.weights}\nverified: {self.how}"


def verify_weights(
    model_file: Path, source: WeightSource, passages: Sequence[Tokens], recipe: Recipe
) -> WeightsVerification:
    """Compares over the passages; between operators, numbers are rounded as in the graph."""
    written = WrittenSource.open(model_file, source.spec)
    narrow = recipe.activations.onnx.numpy()

    def rounded(rows: Rows) -> Rows:
        return rows.astype(narrow).astype(np.float32)

    texts = [passage[:-1] for passage in passages]
    measures = [
        measure(expected, actual, passage[1:])
        for expected, actual, passage in zip(
            reference_logits(source, texts),
            reference_logits(written, texts, rounded),
            passages,
            strict=True,
        )
    ]
    how = (
        f"what was written was computed with in numpy, rounded to {recipe.activations.torch}"
        f"{', keys and values not to int8' if recipe.kv is KvType.INT8 else ''}; the graph did not"
        " run, since ONNX Runtime has no kernels for it on the CPU"
    )
    return WeightsVerification(how, Comparison.of(measures))
