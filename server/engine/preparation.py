"""Turns a request into the sequence that runs it. Knows a tokenizer; does not know threads."""

from server.config import EngineConfig
from server.engine.drafter import LookupDrafter
from server.engine.prompt import PromptEncoder, Tokenizer
from server.engine.request import GenerationRequest
from server.engine.sampling import Sampler
from server.engine.sequence import Sequence
from server.engine.text import incremental_text


class Preparation:
    """Makes sequences for an engine of one configuration. Raises `ClientError` (400)."""

    def __init__(
        self, tokenizer: Tokenizer, config: EngineConfig, eos_token_ids: frozenset[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._config = config
        self._eos_token_ids = frozenset() if config.ignore_eos else eos_token_ids
        self._prompts = PromptEncoder(tokenizer, config.context)

    def sequence(self, key: int, request: GenerationRequest, arrived: float) -> Sequence:
        """Encodes the prompt, which may take a while, and makes the request's sequence."""
        prompt = self._prompts.encode(request)
        return Sequence(
            key=key,
            prompt=prompt,
            max_tokens=min(request.max_tokens, self._config.context - len(prompt)),
            eos_token_ids=self._eos_token_ids,
            sampler=Sampler(request.sampling, prompt),
            text=incremental_text(self._tokenizer),
            arrived=arrived,
            drafter=LookupDrafter(prompt, longest) if (longest := self._config.speculate) else None,
        )
