"""What a client asks of the engine. Knows configuration values only."""

from dataclasses import dataclass

from server.config import SamplingParameters


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Continue `prompt`."""

    request_id: str
    prompt: str
    """Text; special tokens in it are read as such, and no chat template is applied."""
    prompt_field: str
    """What the client calls the prompt, for messages about it."""
    max_tokens: int
    """New tokens at most, 1 or more; the context bounds it silently."""
    sampling: SamplingParameters
