"""Turns a prompt into tokens that fit the context. Knows a tokenizer; does not know threads."""

from typing import Protocol

import numpy as np

from server.engine.request import GenerationRequest
from server.engine.text import Detokenizer
from server.errors import ClientError
from server.model.tensor_types import Tokens

_CHARACTERS_FIRST = 8
"""Encoded first, for each token of the context: most prompts that fit are shorter."""


class Tokenizer(Detokenizer, Protocol):
    """What the engine needs of `server.model.tokenizer`."""

    def encode(self, text: str) -> list[int]: ...


class PromptEncoder:
    """Encodes prompts for a context of so many tokens. Raises `ClientError` (400)."""

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self._tokenizer = tokenizer
        self._context = context

    def encode(self, request: GenerationRequest) -> Tokens:
        """Returns the prompt's tokens [n], at least one; at least one more fits the context."""
        beginning, tokens = self._encode(request.prompt)
        if not tokens:
            raise ClientError(400, f"{request.prompt_field}: has no tokens")
        if len(tokens) >= self._context:
            least = "at least " if len(beginning) < len(request.prompt) else ""
            raise ClientError(
                400,
                f"{request.prompt_field}: {least}{len(tokens)} tokens are too many: with a context"
                f" of {self._context} tokens a prompt has at most {self._context - 1}",
            )
        return np.array(tokens, np.int64)

    def _encode(self, text: str) -> tuple[str, list[int]]:
        """Encodes the text, or only a beginning of it that shows that it is too long. Returns what
        was encoded and its tokens.

        Encoding a text as large as a body may be takes a second and 200 MB. A beginning of twice as
        many tokens as fit is enough: what follows changes only the last few of them.
        """
        end = _CHARACTERS_FIRST * self._context
        while end < len(text):
            tokens = self._tokenizer.encode(text[:end])
            if len(tokens) >= 2 * self._context:
                return text[:end], tokens
            end *= 2
        return text, self._tokenizer.encode(text)
