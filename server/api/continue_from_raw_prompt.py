"""POST /api/v1/continue_from_raw_prompt: a raw prompt. Knows its JSON, no HTTP framing."""

from dataclasses import dataclass

from server.api.generation import Generator, stream_events
from server.api.json_reader import Field, Integer, String, read_object
from server.config import SamplingParameters
from server.engine.request import GenerationRequest
from server.http.exchange import Exchange

PATH = "/api/v1/continue_from_raw_prompt"
MAX_TOKENS = Field(
    "max_tokens", Integer(1, 2**31 - 1), "New tokens at most; a full context ends the answer too."
)
RAW_PROMPT = Field(
    "raw_prompt", String(), "The text to go on with, special tokens included; no chat template."
)
FIELDS = (MAX_TOKENS, RAW_PROMPT)


@dataclass(frozen=True, slots=True)
class ContinueFromRawPrompt:
    """The route's handler."""

    engine: Generator
    sampling: SamplingParameters
    """The server's own; a request cannot choose."""

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        values = read_object(exchange.request.body, FIELDS)
        request = GenerationRequest(
            request_id=exchange.request.id,
            prompt=values[RAW_PROMPT],
            prompt_field=RAW_PROMPT.name,
            max_tokens=values[MAX_TOKENS],
            sampling=self.sampling,
        )
        await stream_events(self.engine, request, exchange)
