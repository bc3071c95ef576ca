"""The rebuilt tokenizer: nothing of a text is lost, and text is cut where the original cuts it.

Beyond these tests it was compared, id by id, with llama.cpp and its test vectors and with the
tokenizers of `transformers`, on the full vocabularies of SmolLM2, GPT-2, Llama 3 and Qwen 2.
"""

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from model_tools.documents.tokenizer_json import build_tokenizer
from model_tools.gguf.vocabulary import PreTokenizer, TokenType
from tests.model_tools.tiny_gguf import BEGIN_OF_TURN, END_OF_TURN, TOKENS, TYPES, VOCABULARY

TOKENIZERS = {
    kind: build_tokenizer(replace(VOCABULARY, pre_tokenizer=kind)) for kind in PreTokenizer
}
SMOLLM = TOKENIZERS[PreTokenizer.SMOLLM]
READ_BACK = Tokenizer.from_str(SMOLLM.to_str(pretty=True))

anything = st.lists(st.sampled_from(TOKENS[:3]) | st.text()).map("".join)


@pytest.mark.parametrize("kind", PreTokenizer)
@given(text=anything)
def test_decoding_gives_the_text_back(kind: PreTokenizer, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    decoded = tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False)
    expected = unicodedata.normalize("NFC", text) if kind is PreTokenizer.QWEN2 else text
    assert decoded == expected


@given(text=anything)
def test_the_written_tokenizer_is_the_one_that_was_built(text: str) -> None:
    assert READ_BACK.encode(text).ids == SMOLLM.encode(text).ids


def words(kind: PreTokenizer, text: str) -> list[str]:
    """The words that the pre-tokenizer cuts the text into."""
    cuts = TOKENIZERS[kind].pre_tokenizer.pre_tokenize_str(text)
    return [text[start:end] for _, (start, end) in cuts]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (PreTokenizer.GPT2, "in 1234 m²", ["in", " 1234", " m", "²"]),
        (PreTokenizer.SMOLLM, "in 1234 m²", ["in", " ", "1", "2", "3", "4", " m", "²"]),
        (PreTokenizer.LLAMA_BPE, "in 1234 m²", ["in", " ", "123", "4", " m", "²"]),
        (PreTokenizer.QWEN2, "in 1234 m²", ["in", " ", "1", "2", "3", "4", " m", "²"]),
        (PreTokenizer.SMOLLM, "٣٤", ["٣", "٤"]),
        (PreTokenizer.GPT2, "I'll, WE'LL", ["I", "'ll", ",", " WE", "'", "LL"]),
        (PreTokenizer.SMOLLM, "I'll, WE'LL", ["I", "'ll", ",", " WE", "'", "LL"]),
        (PreTokenizer.LLAMA_BPE, "I'll, WE'LL", ["I", "'ll", ",", " WE", "'LL"]),
        (PreTokenizer.QWEN2, "(a)\n\n  b", ["(a", ")\n\n", " ", " b"]),
        (PreTokenizer.LLAMA_BPE, "(a)\n\n  b", ["(a", ")\n\n", " ", " b"]),
        (PreTokenizer.SMOLLM, "(a)\n\n  b", ["(", "a", ")", "\n\n ", " b"]),
        (PreTokenizer.GPT2, "(a)\n\n  b", ["(", "a", ")", "\n\n ", " b"]),
    ],
)
def test_text_is_cut_where_the_original_cuts_it(
    kind: PreTokenizer, text: str, expected: list[str]
) -> None:
    assert words(kind, text) == expected


def test_merges_apply_by_rank_within_words() -> None:
    assert SMOLLM.encode("the in 123").tokens == ["t", "he", "Ġ", "in", "Ġ", "1", "2", "3"]
    assert TOKENIZERS[PreTokenizer.GPT2].encode(" the 123").tokens == ["Ġthe", "Ġ", "123"]


def test_llama_takes_a_whole_word_that_is_a_token_without_any_merge() -> None:
    tokens = (*TOKENS, "word")
    types = (*TYPES, TokenType.NORMAL)
    for kind, expected in ((PreTokenizer.LLAMA_BPE, 1), (PreTokenizer.QWEN2, 4)):
        vocabulary = replace(VOCABULARY, pre_tokenizer=kind, tokens=tokens, types=types)
        assert len(build_tokenizer(vocabulary).encode("word").ids) == expected


def test_a_control_token_is_found_in_a_text_and_gives_none() -> None:
    encoded = SMOLLM.encode("<|im_start|>a<|im_end|>")
    assert encoded.ids == [BEGIN_OF_TURN, TOKENS.index("a"), END_OF_TURN]
    assert SMOLLM.decode(encoded.ids) == "a"


def test_an_unknown_token_is_special_too() -> None:
    types = (TokenType.UNKNOWN, *TYPES[1:])
    tokenizer = build_tokenizer(replace(VOCABULARY, types=types))
    assert tokenizer.encode("<|endoftext|>").ids == [0]
    assert tokenizer.decode([0]) == ""


def test_a_user_defined_token_is_found_in_a_text_and_is_text() -> None:
    token = TOKENS.index("<tool call>")
    assert SMOLLM.encode("a<tool call>").ids == [TOKENS.index("a"), token]
    assert SMOLLM.decode([token]) == "<tool call>"


def test_an_unused_token_is_no_text_either_way() -> None:
    assert TOKENS.index("[PAD0]") not in SMOLLM.encode("[PAD0]").ids
    assert SMOLLM.decode([TOKENS.index("[PAD0]"), TOKENS.index("a")]) == "a"


def test_ids_of_padding_rows_give_no_text() -> None:
    assert SMOLLM.decode([len(TOKENS) + 5, TOKENS.index("a")]) == "a"


def test_every_other_token_has_the_files_id() -> None:
    used = {text: token for token, text in enumerate(TOKENS) if not text.startswith("[PAD")}
    assert SMOLLM.get_vocab() == used


def test_a_prompt_begins_with_the_beginning_only_where_the_file_says_so() -> None:
    tokenizer = build_tokenizer(replace(VOCABULARY, add_begin=True))
    letter = TOKENS.index("a")
    assert tokenizer.encode("a").ids == [BEGIN_OF_TURN, letter]
    assert tokenizer.encode("").ids == [BEGIN_OF_TURN]
    assert tokenizer.encode("a", add_special_tokens=False).ids == [letter]
    assert SMOLLM.encode("").ids == []


@pytest.mark.parametrize("text", ["<|im_start|>", "<|a:b|>", "$A", "$:1", "<$>"])
def test_the_beginning_may_have_any_name(text: str) -> None:
    tokens = [*TOKENS[:BEGIN_OF_TURN], text, *TOKENS[BEGIN_OF_TURN + 1 :]]
    built = build_tokenizer(replace(VOCABULARY, tokens=tuple(tokens), add_begin=True))
    encoded = Tokenizer.from_str(built.to_str()).encode("a")
    assert encoded.ids == [BEGIN_OF_TURN, TOKENS.index("a")]
    assert encoded.tokens == [text, "a"]
