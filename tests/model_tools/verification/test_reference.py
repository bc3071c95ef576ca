"""The numpy reference on tiny models; on a real one, see `tests/test_golden.py`."""

from pathlib import Path

import numpy as np
import pytest

from model_tools.gguf.source import GgufSource
from model_tools.verification.reference import Rows, Tokens, reference_logits
from tests.model_tools.plain_decoder import plain_logits
from tests.model_tools.tiny_gguf import TOKENS, TinyLlama

MODELS = {
    "tied": TinyLlama(tied=True),
    "untied": TinyLlama(tied=False),
    "linear scaling": TinyLlama(
        keys={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
    ),
    "rope factors": TinyLlama(rope_factors=[1, 1, 1, 1.5, 2, 4, 8, 8]),
}


@pytest.fixture
def source(tmp_path: Path) -> GgufSource:
    return GgufSource.open(TinyLlama().write(tmp_path / "tiny.gguf"))


def tokens(count: int) -> Tokens:
    return np.random.default_rng(count).integers(0, len(TOKENS), count)


def logits(source: GgufSource, *texts: Tokens) -> list[Rows]:
    return list(reference_logits(source, texts))


def test_a_text_does_not_depend_on_the_others(source: GgufSource) -> None:
    texts = [tokens(7), tokens(1), tokens(20)]
    for text, together in zip(texts, logits(source, *texts), strict=True):
        [alone] = logits(source, text)
        np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_token_does_not_depend_on_later_ones(source: GgufSource) -> None:
    text = tokens(20)
    [whole] = logits(source, text)
    [beginning] = logits(source, text[:9])
    np.testing.assert_allclose(whole[:9], beginning, atol=1e-5)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_last_logits_are_those_of_a_plain_computation(model: TinyLlama, tmp_path: Path) -> None:
    source = GgufSource.open(model.write(tmp_path / "tiny.gguf"))
    for text in (tokens(1), tokens(6)):
        [rows] = logits(source, text)
        np.testing.assert_allclose(rows[-1], plain_logits(source, text), atol=1e-4)
