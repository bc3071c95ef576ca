"""What a request's stream receives: any number of `Text`, then exactly one terminal event.

Beside them `Progress`, which shows that the request goes on and is not sent to its client.
"""

from dataclasses import dataclass
from enum import Enum


class FinishReason(Enum):
    """Why a sequence ended by itself."""

    STOP = "stop"
    """The model ended the text."""
    LENGTH = "length"
    """`max_tokens` new tokens, or a full context."""


@dataclass(frozen=True, slots=True)
class Text:
    """Whole characters that one more token completed, or the rest at the end; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Terminal: the generation is complete."""

    reason: FinishReason
    prompt_tokens: int
    generated_tokens: int
    """Tokens that were chosen, the end-of-text token included."""
    reused_tokens: int = 0
    """Tokens of the prompt that were copied from another sequence instead of being read."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Terminal: the generation cannot go on. `description` is safe to show."""

    code: int
    """An HTTP status (500 to 599), sent in band."""
    description: str


class NotTaken(Exception):
    """The engine refuses a request; `failed` is all that its client receives."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.description)
        self.failed = failed


class Progress(Enum):
    """Progress of a request that its client does not see."""

    BEGUN = "its prompt begins to be read"
    READ = "a piece of its prompt is read"
    SILENT = "a token completes no character"


Event = Text | Finished | Failed
EngineMessage = Event | Progress
