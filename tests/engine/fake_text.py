"""Decoders of three families of tokenizers, each as the definition of its family."""

from collections.abc import Sequence

SPECIAL = "<special>"
"""A token without text."""

Piece = str | int
"""Text, or the number of a byte."""


def byte_level(vocabulary: Sequence[bytes], tokens: Sequence[int]) -> str:
    """GPT-2's: every token is bytes, and what is no UTF-8 is U+FFFD once for each try at a
    character, as WHATWG's decoder has it. A token beyond the vocabulary is a special one."""
    known = [vocabulary[token] for token in tokens if token < len(vocabulary)]
    return b"".join(known).decode("utf-8", errors="replace")


def byte_fallback(vocabulary: Sequence[Piece], tokens: Sequence[int]) -> str:
    """Llama 2's: text but for single bytes, and a run of these that is no UTF-8 as a whole is
    U+FFFD for each of them."""
    text, run = "", b""
    for piece in [vocabulary[token] for token in tokens if vocabulary[token] != SPECIAL]:
        if isinstance(piece, int):
            run += bytes([piece])
        else:
            text, run = text + _run_text(run) + piece, b""
    return text + _run_text(run)


def sentencepiece(vocabulary: Sequence[Piece], tokens: Sequence[int]) -> str:
    """`byte_fallback`, and the first space of the whole text goes."""
    return byte_fallback(vocabulary, tokens).removeprefix(" ")


def _run_text(run: bytes) -> str:
    try:
        return run.decode()
    except UnicodeDecodeError:
        return "\N{REPLACEMENT CHARACTER}" * len(run)
