"""Text to token ids and back: the one door to `tokenizers`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import tokenizers

from server.errors import StartError

T = TypeVar("T")


def _byte_alphabet() -> dict[str, int]:
    """Returns the byte that each character stands for in vocabularies of byte-level BPE, as in
    GPT-2: printable Latin-1 stands for itself, the other bytes are in order from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + index): byte for index, byte in enumerate(others)
    }


class Tokenizer:
    """A folder's `tokenizer.json`."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        # A file may have these for training batches; a prompt is neither truncated nor padded.
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner
        self._pieces: dict[int, str] = {}
        self._bytes: dict[int, bytes] = {}
        self._alphabet = _byte_alphabet()
        added = inner.get_added_tokens_decoder()
        self._special = frozenset(token for token in added if added[token].special)

    @classmethod
    def read(cls, file: Path) -> "Tokenizer":
        """Raises `StartError`."""
        try:
            # Not `from_file`, which takes no path that is not UTF-8.
            return cls(tokenizers.Tokenizer.from_buffer(file.read_bytes()))
        except OSError as error:
            raise StartError(f"{file}: cannot be read: {error.strerror}") from None
        except Exception as error:  # the library raises bare Exception
            raise StartError(f"{file}: not a tokenizer: {error}") from None

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a whole prompt. Special tokens in the text are recognised, and the
        file's post-processor adds a beginning-of-text token where the model wants one."""
        # Not `encode`, which holds the GIL, and so holds up every stream, for half a second when a
        # prompt is as long as allowed.
        [encoding] = _unpanicked(lambda: self._inner.encode_batch_fast([text]))
        return encoding.ids

    @property
    def bytes_of(self) -> Callable[[int], bytes] | None:
        """Maps a token to its bytes. None if a token's text depends on its neighbours, as it does
        unless the file's decoder is the byte-level one alone."""
        byte_level = isinstance(self._inner.decoder, tokenizers.decoders.ByteLevel)
        return self._bytes_of if byte_level else None

    def _bytes_of(self, token: int) -> bytes:
        known = self._bytes.get(token)
        if known is None:
            known = self._bytes[token] = self._read_bytes(token)
        return known

    def _read_bytes(self, token: int) -> bytes:
        text = self._inner.id_to_token(token)
        if text is None or token in self._special:
            return b""
        if all(character in self._alphabet for character in text):
            return bytes(self._alphabet[character] for character in text)
        return text.encode()  # an added token, which stands for itself

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text without special tokens, and U+FFFD where bytes form no character."""
        if len(tokens) > 1:
            return _unpanicked(lambda: self._inner.decode(tokens, skip_special_tokens=True))
        # Streaming also decodes each token alone: two thirds of its time if that is not cached.
        return "".join(map(self._piece, tokens))

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            text = _unpanicked(lambda: self._inner.decode([token], skip_special_tokens=True))
            self._pieces[token] = text
        return self._pieces[token]


def _unpanicked(call: Callable[[], T]) -> T:
    """Returns `call()`, with a Rust panic as an ordinary error, which fails one request. As pyo3
    raises it, it would end the process. Its message may quote the text, which must not be
    logged."""
    try:
        return call()
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError("the tokenizer has failed") from None
