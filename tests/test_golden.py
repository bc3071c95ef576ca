"""The default model against the golden continuations of `transformers` in float32."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_tools.gguf.source import GgufSource
from model_tools.verification.reference import reference_logits
from model_tools.verification.verify import compare
from server.cores import usable_cores
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder
from server.model.tokenizer import Tokenizer
from tests.golden.continuations import CONTINUATIONS, Continuation
from tests.greedy import greedy

LICENCE = Path(__file__).resolve().parent.parent / "LICENSE"
PROMPTS = [continuation.prompt_ids for continuation in CONTINUATIONS]
NEW_TOKENS = len(CONTINUATIONS[0].generated_ids)


def decoder(folder: Path, *, slots: int, context: int) -> CpuDecoder:
    model = ModelFolder.read(folder)
    return CpuDecoder(model, slots=slots, context=context, threads=usable_cores())


def continuations(folder: Path) -> list[list[int]]:
    context = max(map(len, PROMPTS)) + NEW_TOKENS
    return greedy(decoder(folder, slots=len(PROMPTS), context=context), PROMPTS, NEW_TOKENS)


def test_the_golden_tokens_are_not_a_matter_of_rounding() -> None:
    assert min(min(continuation.margins) for continuation in CONTINUATIONS) > 0.01


@pytest.mark.parametrize("continuation", CONTINUATIONS, ids=lambda each: each.name)
def test_the_rebuilt_tokenizer_gives_the_golden_prompts(
    int8_folder: Path, continuation: Continuation
) -> None:
    tokenizer = Tokenizer.read(int8_folder / "tokenizer.json")
    assert tokenizer.encode(continuation.prompt) == continuation.prompt_ids


def test_the_reference_gives_the_golden_tokens(default_source: GgufSource) -> None:
    texts = [
        np.array(continuation.prompt_ids + continuation.generated_ids[:-1])
        for continuation in CONTINUATIONS
    ]
    everything = zip(CONTINUATIONS, reference_logits(default_source, texts), strict=True)
    for continuation, logits in everything:
        rows = logits[len(continuation.prompt_ids) - 1 :]
        assert rows.argmax(axis=-1).tolist() == continuation.generated_ids, continuation.name
        second, first = np.partition(rows, -2, axis=-1)[:, -2:].T
        np.testing.assert_allclose(first - second, continuation.margins, atol=1e-3)


def test_an_fp32_export_gives_the_golden_tokens(fp32_folder: Path) -> None:
    expected = [continuation.generated_ids for continuation in CONTINUATIONS]
    assert continuations(fp32_folder) == expected


def test_an_int8_export_leaves_the_golden_tokens_only_where_they_are_close(
    int8_folder: Path, figure: Callable[[str], None]
) -> None:
    for expected, actual in zip(CONTINUATIONS, continuations(int8_folder), strict=True):
        step = first_difference(expected.generated_ids, actual)
        if step is None:
            figure(f"int8, {expected.name}: all {NEW_TOKENS} golden tokens")
            continue
        margin = expected.margins[step]
        figure(f"int8, {expected.name}: differs first at token {step}, reference margin {margin}")
        # Rounding moves a logit by some tenths; a graph that is wrong leaves surer tokens, too.
        assert margin < 1.0, expected.name


def first_difference(expected: list[int], actual: list[int]) -> int | None:
    differences = (
        i for i, pair in enumerate(zip(expected, actual, strict=True)) if len({*pair}) > 1
    )
    return next(differences, None)


@pytest.mark.parametrize(
    ("exported", "words", "largest_kl"),
    [
        ("int8_folder", "as served", 0.005),
        ("int8_32_folder", "in blocks of 32", 0.005),
        ("int8_kv_folder", "also as keys and values", 0.01),
    ],
)
def test_int8_stays_near_the_reference_over_2000_tokens(
    exported: str,
    words: str,
    largest_kl: float,
    request: pytest.FixtureRequest,
    default_source: GgufSource,
    figure: Callable[[str], None],
) -> None:
    folder: Path = request.getfixturevalue(exported)
    tokenizer = Tokenizer.read(folder / "tokenizer.json")
    tokens = np.array(tokenizer.encode(LICENCE.read_text())[:2048])
    passages = np.split(tokens, len(tokens) // 512)
    prompts, decode = compare(decoder(folder, slots=4, context=512), default_source, passages)
    figure(f"int8 {words}, prompts: {prompts}")
    figure(f"int8 {words}, decode:  {decode}")
    assert prompts.tokens > 2000
    assert decode.tokens > 2000
    assert prompts.mean_kl <= largest_kl
    assert decode.mean_kl <= largest_kl
