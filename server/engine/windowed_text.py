"""Incremental detokenisation where the text of a token depends on its neighbours. Knows a `decode`
function only.

The method is that of Hugging Face's and vLLM's streaming decoders: decode a short window twice,
with and without the newest tokens, and give out the difference; the first half of the window is
context for decoders that treat the first token of a text differently.
"""

from collections.abc import Callable, Sequence

UNFINISHED = "\N{REPLACEMENT CHARACTER}"

Decode = Callable[[Sequence[int]], str]


class WindowedText:
    """An `IncrementalText` for any tokenizer."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._context = 0
        """Leading tokens of the window whose text was given out."""
        self._context_text = ""

    def push(self, token: int) -> str:
        """See `IncrementalText`."""
        self._window.append(token)
        text = self._decode(self._window)
        if text == self._context_text:
            # A special token, which is no context for what follows. Before any text it may also be
            # a leading space that the decoder strips: it stays, as the beginning of the text.
            if text:
                self._window.pop()
            return ""
        if text.endswith(UNFINISHED):
            return ""
        return self._give_out(text)

    def flush(self) -> str:
        """See `IncrementalText`."""
        return self._give_out(self._decode(self._window))

    def _give_out(self, text: str) -> str:
        if text.startswith(self._context_text):
            new = text[len(self._context_text) :]
        else:  # byte fallback: one bad byte spoils its whole run, also what was given out
            new = self._decode(self._window[self._context :])
        del self._window[: self._context]
        self._context = len(self._window)
        self._context_text = self._decode(self._window)
        return new
