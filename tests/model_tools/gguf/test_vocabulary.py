"""The vocabulary of a GGUF file, and which of its tokens end a generation."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from model_tools.documents.end_of_generation import end_of_generation
from model_tools.gguf.source import GgufSource
from model_tools.gguf.vocabulary import TokenType, Vocabulary
from server.errors import StartError
from tests.model_tools.tiny_gguf import TOKENS, TYPES, VOCABULARY, TinyLlama, Value


def read(folder: Path, keys: Mapping[str, Value | None]) -> Vocabulary:
    return GgufSource.open(TinyLlama(keys=keys).write(folder / "tiny.gguf")).metadata.vocabulary


def test_the_vocabulary_says_what_the_keys_say(tmp_path: Path) -> None:
    keys: dict[str, Value | None] = {
        "tokenizer.ggml.eot_token_id": 2,
        "tokenizer.ggml.eom_token_id": 5,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 3,
        "tokenizer.ggml.fim_pad_token_id": 4,
        "tokenizer.ggml.add_bos_token": True,
    }
    assert read(tmp_path, {}) == VOCABULARY
    assert read(tmp_path, keys) == replace(
        VOCABULARY,
        end_of_turn=2,
        end_of_message=5,
        unknown=0,
        padding=3,
        fill_in_the_middle_ends=(4,),
        add_begin=True,
    )


@pytest.mark.parametrize(
    ("pre_tokenizer", "add_begin"),
    [("smollm", False), ("gpt-2", False), ("qwen2", False), ("llama-bpe", True), ("llama3", True)],
)
def test_without_a_key_prompts_begin_as_llama_cpp_begins_them(
    tmp_path: Path, pre_tokenizer: str, *, add_begin: bool
) -> None:
    assert read(tmp_path, {"tokenizer.ggml.pre": pre_tokenizer}).add_begin is add_begin


def test_an_empty_token_gets_a_name(tmp_path: Path) -> None:
    tokens = (*TOKENS[:-1], "")
    vocabulary = read(tmp_path, {"tokenizer.ggml.tokens": tokens})
    assert vocabulary.tokens[-1] == f"[EMPTY_{len(TOKENS) - 1}]"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"tokenizer.ggml.model": "llama"}, "tokenizer model 'llama' is not supported"),
        ({"tokenizer.ggml.pre": "tekken"}, "pre-tokenizer 'tekken' is not supported, only gpt-2"),
        ({"tokenizer.ggml.pre": None}, "tokenizer.ggml.pre is missing"),
        ({"tokenizer.ggml.tokens": (*TOKENS[:-1], "a")}, "the token 'a' occurs 2 times"),
        ({"tokenizer.ggml.token_type": [1, 2]}, "has 2 entries for"),
        ({"tokenizer.ggml.token_type": [*TYPES[:-1], 6]}, "6 is not a valid TokenType"),
        ({"tokenizer.ggml.merges": ["a b"]}, "the merge 'a b' does not join two tokens"),
        ({"tokenizer.ggml.merges": ["ab"]}, "the merge 'ab' does not join two tokens"),
        ({"tokenizer.ggml.eos_token_id": 4096}, "eos_token_id = 4096 is outside the"),
        ({"tokenizer.ggml.add_eos_token": True}, "tokenizer.ggml.add_eos_token = True"),
        ({"tokenizer.ggml.add_space_prefix": True}, "tokenizer.ggml.add_space_prefix = True"),
        ({"tokenizer.ggml.suppress_tokens": [1]}, "tokenizer.ggml.suppress_tokens"),
        (
            {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": None},
            "bos_token_id does not name",
        ),
    ],
)
def test_what_is_wrong_or_not_supported_is_refused_by_name(
    tmp_path: Path, keys: Mapping[str, Value | None], reason: str
) -> None:
    with pytest.raises(StartError) as caught:
        read(tmp_path, keys)
    assert reason in str(caught.value)


def test_a_merge_of_an_unused_token_is_refused(tmp_path: Path) -> None:
    unused = TOKENS.index("he")
    with pytest.raises(StartError, match="'h e' does not join two tokens"):
        read(tmp_path, {"tokenizer.ggml.token_type": [*TYPES[:unused], 5, *TYPES[unused + 1 :]]})


ENDINGS = replace(
    VOCABULARY,
    tokens=("<|eom_id|>", "<|eot_id|>", "<|end_of_text|>", "</s>", "a", "<tool>"),
    types=(*[TokenType.CONTROL] * 3, TokenType.NORMAL, TokenType.NORMAL, TokenType.CONTROL),
    merges=(),
    end=2,
)


def test_the_named_end_comes_first_and_known_control_tokens_follow() -> None:
    assert end_of_generation(ENDINGS) == (2, 0, 1)


def test_what_the_file_names_ends_a_generation_whatever_its_text() -> None:
    named = replace(ENDINGS, end=5, end_of_turn=4, fill_in_the_middle_ends=(4,))
    assert end_of_generation(named) == (5, 0, 1, 2, 4)


def test_ordinary_text_that_looks_like_an_end_is_none() -> None:
    assert 3 not in end_of_generation(ENDINGS)


def test_a_file_that_ends_no_generation_is_refused(tmp_path: Path) -> None:
    tokens = ("<a>", "<b>", "<c>", *TOKENS[3:])
    keys = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.eos_token_id": None}
    with pytest.raises(StartError, match=r"no token ends a generation: .*eos_token_id is missing"):
        read(tmp_path, keys)
