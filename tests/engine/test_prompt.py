"""What fits is encoded whole, and what is too long is refused for little."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.config import SamplingParameters
from server.engine.prompt import PromptEncoder
from server.engine.request import GenerationRequest
from server.engine.text import BytesOf
from server.errors import ClientError

CONTEXT = 4
LONGEST = 40
TOKEN = re.compile(f"a{{1,{LONGEST}}}|.")
"""A long run of one letter is one token; each other letter is one, too."""


@dataclass
class RunTokenizer:
    bytes_of: BytesOf | None = None
    counts: list[int] = field(default_factory=list)
    """How many tokens each call gave."""

    def encode(self, text: str) -> list[int]:
        tokens = [len(token) for token in TOKEN.findall(text)]
        self.counts.append(len(tokens))
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        raise NotImplementedError


def ask(prompt: str) -> GenerationRequest:
    return GenerationRequest("id", prompt, "raw_prompt", 1, SamplingParameters())


runs = st.lists(st.sampled_from(["a" * LONGEST, "a" * 11, "b", "bbb"]), max_size=50)


@example(["a" * LONGEST] * (CONTEXT - 1))
@example(["a" * LONGEST] * CONTEXT)
@example(["a" * LONGEST] * 3 * CONTEXT)
@example(["b"] * 50)
@given(runs)
def test_a_prompt_is_refused_if_its_tokens_are_too_many(pieces: list[str]) -> None:
    text = "".join(pieces)
    tokenizer = RunTokenizer()
    tokens = tokenizer.encode(text)
    encoder = PromptEncoder(tokenizer, CONTEXT)
    if 0 < len(tokens) < CONTEXT:
        assert encoder.encode(ask(text)).tolist() == tokens
    else:
        with pytest.raises(ClientError, match=r"too many|no tokens"):
            encoder.encode(ask(text))


def test_of_a_prompt_that_is_far_too_long_little_is_encoded() -> None:
    tokenizer = RunTokenizer()
    encoder = PromptEncoder(tokenizer, CONTEXT)
    with pytest.raises(ClientError, match="at least 32 tokens are too many"):
        encoder.encode(ask("b" * 160))
    assert tokenizer.counts == [32]


def test_a_prompt_that_just_does_not_fit_is_counted() -> None:
    with pytest.raises(ClientError, match=r"^raw_prompt: 4 tokens are too many"):
        PromptEncoder(RunTokenizer(), CONTEXT).encode(ask("bbbb"))
