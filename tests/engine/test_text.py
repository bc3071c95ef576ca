"""Text that streams in whole characters is the text of all tokens decoded at once."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from server.engine.text import ByteText, IncrementalText, incremental_text
from server.engine.windowed_text import UNFINISHED, Decode, WindowedText
from server.model.tokenizer import Tokenizer as Detokenizer
from tests.engine.fake_text import SPECIAL, Piece, byte_fallback, byte_level, sentencepiece

FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
TEXTS = (
    "a",
    "été",
    "你好",
    "🙂",
    "🇨🇭",
    FAMILY,
    "e\N{COMBINING ACUTE ACCENT}",
    "\0",
    "\ufeff",
    " x  y",
)
CHARACTERS = sorted({*"".join(TEXTS)})

texts = st.sampled_from(TEXTS) | st.text(
    st.sampled_from(CHARACTERS) | st.characters(codec="utf-8"), max_size=8
)


def stream(text: IncrementalText, tokens: Sequence[int]) -> list[str]:
    """What each token gave, and what was left at the end."""
    return [*(text.push(token) for token in tokens), text.flush()]


def byte_text(vocabulary: Sequence[bytes]) -> ByteText:
    """A token beyond the vocabulary is a special one."""
    return ByteText(lambda token: vocabulary[token] if token < len(vocabulary) else b"")


def assert_bytes_stream_as_decoded(vocabulary: Sequence[bytes], tokens: Sequence[int]) -> None:
    decode = partial(byte_level, vocabulary)
    assert_streams_as_decoded(WindowedText(decode), decode, tokens)
    assert_streams_as_decoded(byte_text(vocabulary), decode, tokens)


def assert_streams_as_decoded(text: IncrementalText, decode: Decode, tokens: Sequence[int]) -> None:
    """And at once: nothing is held back that is whole."""
    given = stream(text, tokens)
    assert "".join(given) == decode(tokens)
    for end in range(len(tokens)):
        so_far = decode(tokens[: end + 1])
        if not so_far.endswith(UNFINISHED):
            assert "".join(given[: end + 1]) == so_far


def cut_at(text: bytes, places: Sequence[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:stop] for start, stop in pairwise(bounds)]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_cut_at_every_byte_comes_in_whole_characters(text: str) -> None:
    parts = [bytes([byte]) for byte in text.encode()]
    for each in (WindowedText(partial(byte_level, parts)), byte_text(parts)):
        given = stream(each, range(len(parts)))
        assert [part for part in given if part] == [*text]


@settings(max_examples=300)
@given(text=texts, places=st.lists(st.integers(0, 100), max_size=8))
def test_bytes_in_any_parts(text: str, places: list[int]) -> None:
    parts = cut_at(text.encode(), places)
    assert_bytes_stream_as_decoded(parts, range(len(parts)))


@settings(max_examples=300)
@given(parts=st.lists(st.binary(max_size=5) | texts.map(str.encode), max_size=10), data=st.data())
def test_any_bytes_and_special_tokens(parts: list[bytes], data: st.DataObject) -> None:
    """The special token may stand in the middle of a character."""
    tokens = data.draw(st.lists(st.integers(0, len(parts)), max_size=15))
    assert_bytes_stream_as_decoded(parts, tokens)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_bytes_that_never_became_a_character_are_one_replacement(missing: int) -> None:
    text = "a🙂".encode()[:-missing]
    vocabulary = [bytes([byte]) for byte in text]
    for empty, each in (
        (
            WindowedText(partial(byte_level, vocabulary)),
            WindowedText(partial(byte_level, vocabulary)),
        ),
        (byte_text(vocabulary), byte_text(vocabulary)),
    ):
        assert "".join(stream(each, range(len(text)))) == "a" + UNFINISHED
        assert empty.flush() == ""


def test_a_token_costs_the_same_however_long_the_text_is() -> None:
    lengths: list[int] = []

    def decode(tokens: Sequence[int]) -> str:
        lengths.append(len(tokens))
        return byte_level([b"a", "🙂".encode()[:2], "🙂".encode()[2:]], tokens)

    stream(WindowedText(decode), [0, 1, 2, 99] * 50)
    assert max(lengths) <= 6


pieces = st.sampled_from([SPECIAL, " ", "  ", " a", "a", "🙂", "", "\n"]) | texts


@st.composite
def fallback_tokens(draw: st.DrawFn) -> list[Piece]:
    """Whole characters out of bytes among text; the last may be cut."""
    found: list[Piece] = []
    for piece in draw(st.lists(pieces, max_size=8)):
        found += piece.encode() if piece != SPECIAL and draw(st.booleans()) else [piece]
    return found


@settings(max_examples=300)
@given(vocabulary=fallback_tokens())
@example(vocabulary=[" ", " a"])
@example(vocabulary=[SPECIAL, " ", SPECIAL, " ", "a"])
@example(vocabulary=["", " ", "🙂"])
@pytest.mark.parametrize("family", [byte_fallback, sentencepiece])
def test_text_and_bytes_and_a_first_space(
    family: Callable[[Sequence[Piece], Sequence[int]], str], vocabulary: list[Piece]
) -> None:
    decode = partial(family, vocabulary)
    assert_streams_as_decoded(WindowedText(decode), decode, range(len(vocabulary)))


def test_a_bad_byte_after_whole_ones_is_a_replacement_of_its_own() -> None:
    """Decoded at once, byte fallback makes the whole run bad; but the run's beginning is out."""
    run: list[Piece] = [*"€".encode(), 0xF0, "a"]
    assert byte_fallback(run, range(5)) == 4 * UNFINISHED + "a"
    assert stream(WindowedText(partial(byte_fallback, run)), range(5)) == [
        "",
        "",
        "€",
        "",
        UNFINISHED + "a",
        "",
    ]


def real_byte_level() -> Tokenizer:
    """GPT-2's kind: the 256 bytes, a few merges and a special token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "a"), ("ð", "Ł"), ("ðŁ", "Ļ"), ("Ã", "©")]
    tokens = [*alphabet, *("".join(merge) for merge in merges)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.add_tokens(["<tool é>", "Ġa a"])
    return tokenizer


def real_byte_fallback() -> Tokenizer:
    """Llama 2's kind: pieces, a token for each byte, and the first space goes."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a", "é"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "a")], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


REAL = [real_byte_level(), real_byte_fallback()]


@settings(max_examples=200)
@given(text=texts, spaces=st.integers(0, 3))
@pytest.mark.parametrize("tokenizer", REAL, ids=["byte level", "byte fallback"])
def test_what_real_tokenizers_make_of_a_text(tokenizer: Tokenizer, text: str, spaces: int) -> None:
    tokens = tokenizer.encode("▁" * spaces + text.replace(" ", "▁")).ids
    streamed = incremental_text(Detokenizer(tokenizer))
    assert_streams_as_decoded(streamed, tokenizer.decode, tokens)


@settings(max_examples=200)
@given(data=st.data())
def test_any_tokens_of_a_real_byte_level_tokenizer(data: st.DataObject) -> None:
    ids = st.integers(0, REAL[0].get_vocab_size() + 1)
    tokens = data.draw(st.lists(ids, max_size=12))
    for each in (WindowedText(REAL[0].decode), incremental_text(Detokenizer(REAL[0]))):
        assert_streams_as_decoded(each, REAL[0].decode, tokens)
