"""Text out of tokens as they come, in whole characters. Knows what it needs of a tokenizer.

The concatenation of all that is given out equals the text of all tokens decoded at once.
"""

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol

from server.engine.windowed_text import WindowedText

_Utf8 = codecs.getincrementaldecoder("utf-8")

BytesOf = Callable[[int], bytes]
"""The bytes that a token always stands for; none for a special token."""


class IncrementalText(Protocol):
    """The text of one sequence."""

    def push(self, token: int) -> str:
        """The characters that this token completes; "" while one is unfinished."""

    def flush(self) -> str:
        """What was held back; bytes that never became a character are U+FFFD."""


class Detokenizer(Protocol):
    """What text needs of `server.model.tokenizer`."""

    @property
    def bytes_of(self) -> BytesOf | None:
        """None where the text of a token depends on its neighbours."""

    def decode(self, tokens: Sequence[int]) -> str: ...


def incremental_text(detokenizer: Detokenizer) -> IncrementalText:
    """The cheapest that streams this tokenizer's text."""
    if detokenizer.bytes_of is None:
        return WindowedText(detokenizer.decode)
    return ByteText(detokenizer.bytes_of)


class ByteText:
    """Where a text's bytes are those of its tokens, one after the other, as with byte-level BPE.

    A step finds all caches full of weights, and this touches a dozen lines of them, where decoding
    a window (`windowed_text`) goes through the whole tokenizer.
    """

    def __init__(self, bytes_of: BytesOf) -> None:
        self._bytes_of = bytes_of
        self._decoder = _Utf8("replace")

    def push(self, token: int) -> str:
        """See `IncrementalText`."""
        return self._decoder.decode(self._bytes_of(token))

    def flush(self) -> str:
        """See `IncrementalText`."""
        return self._decoder.decode(b"", final=True)
