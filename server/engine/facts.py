"""What the engine tells whoever watches it: what happened and how long it took, as values.

Ids, counts and seconds; nothing that a client wrote or is sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from server.engine.events import FinishReason


class StepKind(Enum):
    """What a step was for."""

    DECODE = "decode"
    """The next token of each running sequence, and nothing else."""
    PROMPT = "prompt"
    """A piece of a prompt too."""


@dataclass(frozen=True, slots=True)
class StepTaken:
    """The engine's thread took a step that called the model. Told in that thread."""

    kind: StepKind
    seconds: float
    runtime_seconds: float
    """Of them, those inside the model's runtime."""
    generated_tokens: int
    gaps: Mapping[float, int]
    """How many tokens came so many seconds after the ones before them, each in its own sequence."""


@dataclass(frozen=True, slots=True)
class PrefillDone:
    """A request has its first token. Told in the engine's thread."""

    prompt_tokens: int
    reused_tokens: int
    queue_seconds: float
    """From its arrival to its first call into the model."""
    prefill_seconds: float
    """From there to its first token."""


End = FinishReason | int | None
"""Of a request: by itself, with the status of an error, or (None) since its client left."""


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """There is nothing more to come for a request. Told in the network's thread, once for each."""

    request_id: str
    end: End
    prompt_tokens: int = 0
    """0 where it was not turned into tokens."""
    reused_tokens: int = 0
    generated_tokens: int = 0
    queue_seconds: float = 0.0
    """These three add up to its whole time; what it did not reach is 0."""
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """From its arrival to its end."""
        return self.queue_seconds + self.prefill_seconds + self.decode_seconds


Fact = StepTaken | PrefillDone | RequestEnded
Observe = Callable[[Fact], None]
"""Takes a fact; called between two calls into the model, so it must be quick and may not wait."""


def unobserved(fact: Fact) -> None:
    """Nobody watches."""


class Activity(Enum):
    """What a request with a slot is at."""

    QUEUE = "queue"
    """Its prompt is becoming tokens, or other prompts are read first."""
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot that a request has, at this moment."""

    request_id: str
    activity: Activity
    prompt_tokens: int
    """0 while the prompt is becoming tokens."""
    read_tokens: int
    """Of the prompt, reused ones included."""
    reused_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How full the engine is at this moment."""

    slots: int
    """0 while the model is being loaded."""
    taken: tuple[SlotState, ...]
    """The slots that requests have, in order of arrival."""
    waiting: int
    """Requests that wait for one."""
    kv_usage: float
    """Tokens that running sequences hold, from 0 to 1 as a share of `slots` whole contexts."""
