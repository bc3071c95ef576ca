"""A request's prompt to tokens that fit the context. Knows a tokenizer, but no thread."""

from typing import Protocol

import numpy as np

from server.engine.decoder import Tokens
from server.engine.request import GenerationRequest
from server.engine.text import Detokenizer
from server.errors import ClientError


class Tokenizer(Detokenizer, Protocol):
    """What the engine needs of `server.model.tokenizer`."""

    @property
    def longest_token_bytes(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...


class PromptEncoder:
    """Encodes prompts for a context of so many tokens. Every refusal is a `ClientError` (400)."""

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self._tokenizer = tokenizer
        self._context = context

    def check_size(self, request: GenerationRequest) -> None:
        """Refuses what is too long whatever its tokens are; far cheaper than to encode it."""
        size = len(request.prompt.encode())
        if size > self._context * self._tokenizer.longest_token_bytes:
            raise ClientError(
                400,
                f"{request.prompt_field}: {size} bytes are more than the context of"
                f" {self._context} tokens can hold",
            )

    def encode(self, request: GenerationRequest) -> Tokens:
        """Tokens of the prompt; there are some, and at least one more fits the context."""
        tokens = self._tokenizer.encode(request.prompt)
        if not tokens:
            raise ClientError(400, f"{request.prompt_field}: has no tokens")
        if len(tokens) >= self._context:
            raise ClientError(
                400,
                f"{request.prompt_field}: {len(tokens)} tokens are too many: with a context of"
                f" {self._context} tokens a prompt has at most {self._context - 1}",
            )
        return np.array(tokens, np.int64)
