"""Prompts become ids as the folder's own file says, and ids text without special tokens."""

import itertools
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, processors

from server.errors import StartError
from server.model.tokenizer import Tokenizer

MERGES = [("Ġ", "a"), ("a", "b"), ("Ã", "©")]
BEGIN, END = "<|begin|>", "<|end|>"


def byte_level() -> tokenizers.Tokenizer:
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, MERGES)]
    tokenizer = tokenizers.Tokenizer(
        models.BPE({token: number for number, token in enumerate(tokens)}, MERGES)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([BEGIN, END])
    return tokenizer


def read(tokenizer: tokenizers.Tokenizer, folder: Path) -> Tokenizer:
    """Through the file, as a server reads it."""
    file = folder / "tokenizer.json"
    tokenizer.save(str(file))
    return Tokenizer.read(file)


BYTE_LEVEL = Tokenizer(byte_level())


@given(text=st.text(st.characters(codec="utf-8"), max_size=20))
def test_text_comes_back(text: str) -> None:
    assert BYTE_LEVEL.decode(BYTE_LEVEL.encode(text)) == text


@pytest.fixture
def no_thread_is_interrupted() -> Iterator[None]:
    """Others run only where one lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("no_thread_is_interrupted")
def test_encoding_leaves_other_threads_their_time() -> None:
    ticks = itertools.count()
    seen: list[int] = []

    def encode() -> None:
        before = next(ticks)
        BYTE_LEVEL.encode("a" * 300_000)
        seen.extend([before, next(ticks)])

    worker = threading.Thread(target=encode)
    worker.start()
    while worker.is_alive():
        next(ticks)
        worker.join(0.001)
    before, after = seen
    assert after > before + 1


def test_special_tokens_in_a_text_are_read_as_such_and_give_none(tmp_path: Path) -> None:
    inner = byte_level()
    tokenizer = read(inner, tmp_path)
    tokens = tokenizer.encode(f"a{END}b{BEGIN}")
    assert tokens[1::2] == [inner.token_to_id(END), inner.token_to_id(BEGIN)]
    assert tokenizer.decode(tokens) == "ab"


def test_a_beginning_of_text_is_the_files_own_business(tmp_path: Path) -> None:
    inner = byte_level()
    assert read(inner, tmp_path).encode("") == []
    begin = inner.token_to_id(BEGIN)
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, begin)]
    )
    assert read(inner, tmp_path).encode("") == [begin]
    assert read(inner, tmp_path).encode("a")[0] == begin


def test_a_prompt_is_neither_cut_nor_filled_up(tmp_path: Path) -> None:
    inner = byte_level()
    inner.enable_truncation(4)
    inner.enable_padding(length=8)
    tokenizer = read(inner, tmp_path)
    assert len(tokenizer.encode("bcdefghijk")) == 10
    assert len(tokenizer.encode("b")) == 1


def test_bytes_that_make_no_character_are_a_replacement() -> None:
    tokens = BYTE_LEVEL.encode("🙂")
    assert len(tokens) == 4
    assert BYTE_LEVEL.decode(tokens[:3]) == "\N{REPLACEMENT CHARACTER}"


def test_an_id_that_no_token_has_gives_no_text() -> None:
    """A graph's vocabulary may be padded beyond the tokenizer's."""
    assert BYTE_LEVEL.decode([*BYTE_LEVEL.encode("a"), 40_000]) == "a"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has UTF-8 names only")
def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    (folder / "tokenizer.json").write_text(byte_level().to_str())
    assert Tokenizer.read(folder / "tokenizer.json").encode("ab") == BYTE_LEVEL.encode("ab")


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"model": {"type": "none"}}', "\0\n\n"])
def test_a_file_that_is_no_tokenizer_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(StartError) as raised:
        Tokenizer.read(file)
    assert str(raised.value).startswith(f"{file}: not a tokenizer: ")
    assert len(str(raised.value).splitlines()) == 1


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"tokenizer\.json: cannot be read: "):
        Tokenizer.read(tmp_path / "tokenizer.json")


class PanicException(BaseException):
    """As pyo3 has it."""


def test_a_panic_of_the_library_is_an_error_without_the_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Panicking:
        def encode_batch_fast(self, texts: list[str]) -> None:
            raise PanicException(texts)

        def decode(self, tokens: list[int], **_: object) -> None:
            raise PanicException(tokens)

    tokenizer = Tokenizer(byte_level())
    monkeypatch.setattr(tokenizer, "_inner", Panicking())
    for call in (lambda: tokenizer.encode("a secret"), lambda: tokenizer.decode([1, 2])):
        with pytest.raises(RuntimeError, match=r"^the tokenizer has failed$"):
            call()
