"""Text to token ids and back: the one door to `tokenizers`."""

from collections.abc import Sequence
from pathlib import Path

import tokenizers

from server.errors import StartError


class Tokenizer:
    """A folder's `tokenizer.json`."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        # A file may carry these for training batches; a prompt is neither cut nor filled up.
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner
        self._pieces: dict[int, str] = {}
        self.longest_token_bytes = max(
            (len(token.encode()) for token in inner.get_vocab()), default=1
        )
        """No token stands for more UTF-8 bytes of text than this."""

    @classmethod
    def read(cls, file: Path) -> "Tokenizer":
        """Raises `StartError`."""
        try:
            return cls(tokenizers.Tokenizer.from_file(str(file)))
        except Exception as error:  # the library raises bare Exception
            raise StartError(f"{file}: not a tokenizer: {error}") from None

    def encode(self, text: str) -> list[int]:
        """Ids of a whole prompt: special tokens in the text count as such, and the file's own
        post-processor adds a beginning-of-text token where the model wants one."""
        return self._inner.encode(text).ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special ones left out; U+FFFD where bytes make no character."""
        if len(tokens) > 1:
            return self._inner.decode(tokens, skip_special_tokens=True)
        # Streaming asks for the text of each token alone, too: two thirds of its time if not kept.
        return "".join(map(self._piece, tokens))

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self._inner.decode([token], skip_special_tokens=True)
        return self._pieces[token]
