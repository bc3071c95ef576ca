"""Text to token ids and back: the one door to `tokenizers`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import tokenizers

from server.errors import StartError

T = TypeVar("T")


def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in the vocabularies of byte-level BPE, as GPT-2 has
    it: printable Latin-1 for itself, the others in order from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + place): byte for place, byte in enumerate(others)
    }


class Tokenizer:
    """A folder's `tokenizer.json`."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        # A file may carry these for training batches; a prompt is neither cut nor filled up.
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner
        self._pieces: dict[int, str] = {}
        self._bytes: dict[int, bytes] = {}
        self._alphabet = _byte_alphabet()
        added = inner.get_added_tokens_decoder()
        self._special = frozenset(token for token in added if added[token].special)
        self.longest_token_bytes = max(
            (len(token.encode()) for token in inner.get_vocab()), default=1
        )
        """No token stands for more UTF-8 bytes of text than this."""

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
        """Ids of a whole prompt: special tokens in the text count as such, and the file's own
        post-processor adds a beginning-of-text token where the model wants one."""
        # Not `encode`: that one holds the interpreter's lock, and with it every stream, for half a
        # second where a prompt is as long as may be.
        [encoding] = _unpanicked(lambda: self._inner.encode_batch_fast([text]))
        return encoding.ids

    @property
    def bytes_of(self) -> Callable[[int], bytes] | None:
        """The bytes that a token always stands for; None where its text depends on its neighbours,
        as it does unless the file's decoder is the byte-level one alone."""
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
        """Text of tokens, special ones left out; U+FFFD where bytes make no character."""
        if len(tokens) > 1:
            return _unpanicked(lambda: self._inner.decode(tokens, skip_special_tokens=True))
        # Streaming asks for the text of each token alone, too: two thirds of its time if not kept.
        return "".join(map(self._piece, tokens))

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            text = _unpanicked(lambda: self._inner.decode([token], skip_special_tokens=True))
            self._pieces[token] = text
        return self._pieces[token]


def _unpanicked(call: Callable[[], T]) -> T:
    """What `call` gives. A panic of the library's Rust is an error like any other, of one request;
    as pyo3 raises it, it would end the process. It may quote the text, which no log is to show."""
    try:
        return call()
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError("the tokenizer has failed") from None
