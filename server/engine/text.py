"""Incremental detokenisation, in whole characters. Knows what it needs of a tokenizer.

The concatenation of all its output equals the text of all tokens decoded at once.
"""

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol

from server.engine.windowed_text import WindowedText

_Utf8 = codecs.getincrementaldecoder("utf-8")

BytesOf = Callable[[int], bytes]
"""The bytes that a token always stands for; b"" for a special token."""


class IncrementalText(Protocol):
    """The text of one sequence."""

    def push(self, token: int) -> str:
        """The characters that this token completes; "" while one is unfinished."""

    def flush(self) -> str:
        """The text that was held back; bytes that never became a character are U+FFFD."""


class Detokenizer(Protocol):
    """What text needs of `server.model.tokenizer`."""

    @property
    def bytes_of(self) -> BytesOf | None:
        """None if the text of a token depends on its neighbours."""

    def decode(self, tokens: Sequence[int]) -> str: ...


def incremental_text(detokenizer: Detokenizer) -> IncrementalText:
    """The cheapest `IncrementalText` for this tokenizer."""
    if detokenizer.bytes_of is None:
        return WindowedText(detokenizer.decode)
    return ByteText(detokenizer.bytes_of)


class ByteText:
    """For tokenizers whose text is the concatenated bytes of its tokens, as with byte-level BPE.

    After a call into the model all caches are full of weights. This touches a dozen cache lines,
    while decoding a window (`windowed_text`) goes through the whole tokenizer.
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
