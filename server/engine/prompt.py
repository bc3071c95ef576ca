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

    @property
    def longest_token_bytes(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...


class PromptEncoder:
    """Encodes prompts for a context of so many tokens. Raises `ClientError` (400)."""

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self._tokenizer = tokenizer
        self._context = context

    def check_size(self, request: GenerationRequest) -> None:
        """Raises if the prompt is too long whatever its tokens are; far cheaper than to encode."""
        size = len(request.prompt.encode())
        if size > self._context * self._tokenizer.longest_token_bytes:
            raise ClientError(
                400,
                f"{request.prompt_field}: {size} bytes are more than the context of"
                f" {self._context} tokens can hold",
            )

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

        If tokens may have a hundred bytes, `check_size` lets a text pass that has a hundred times
        too many one-byte tokens, and encoding all of them takes half a second and 100 MB. A
        beginning of twice as many as fit is enough: what follows changes only the last few of them.
        """
        end = _CHARACTERS_FIRST * self._context
        while end < len(text):
            tokens = self._tokenizer.encode(text[:end])
            if len(tokens) >= 2 * self._context:
                return text[:end], tokens
            end *= 2
        return text, self._tokenizer.encode(text)
