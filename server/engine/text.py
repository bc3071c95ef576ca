"""Text out of tokens as they come, in whole characters. Knows a `decode` function, no tokenizer.

The concatenation of all that is given out equals the text of all tokens decoded at once. The method
is the one of Hugging Face's and vLLM's streaming decoders: decode a short window twice, with and
without the newest tokens, and give out the difference; the first half of the window is context for
decoders that treat the first token of a text in a way of its own.
"""

from collections.abc import Callable, Sequence

UNFINISHED = "\N{REPLACEMENT CHARACTER}"

Decode = Callable[[Sequence[int]], str]


class IncrementalText:
    """The text of one sequence."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._context = 0
        """Leading tokens of the window whose text was given out."""
        self._context_text = ""

    def push(self, token: int) -> str:
        """The characters that this token completes; "" while one is unfinished."""
        self._window.append(token)
        text = self._decode(self._window)
        if text == self._context_text:
            # A special token, which is no context for what follows. Before any text it may also be
            # a space that the decoder takes from the beginning, and that makes a beginning.
            if text:
                self._window.pop()
            return ""
        if text.endswith(UNFINISHED):
            return ""
        return self._give_out(text)

    def flush(self) -> str:
        """What was held back; bytes that never became a character are U+FFFD."""
        return self._give_out(self._decode(self._window))

    def _give_out(self, text: str) -> str:
        if text.startswith(self._context_text):
            new = text[len(self._context_text) :]
        else:  # byte fallback: one bad byte makes its whole run bad, with what is already out
            new = self._decode(self._window[self._context :])
        del self._window[: self._context]
        self._context = len(self._window)
        self._context_text = self._decode(self._window)
        return new
