"""What the engine reports to its observers: what happened and how long it took, as values.

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
    """A piece of a prompt was read, in its calls or beside them."""


@dataclass(frozen=True, slots=True)
class StepTaken:
    """The engine's thread took a step that called the model. Reported in that thread."""

    kind: StepKind
    seconds: float
    runtime_seconds: float
    """The part of `seconds` that was spent inside the model's runtime."""
    generated_tokens: int
    gaps: Mapping[float, int]
    """How many tokens came after each gap: seconds since the same sequence's previous token."""


@dataclass(frozen=True, slots=True)
class PrefillDone:
    """A prompt was read whole, even if choosing its first token failed. Reported in the engine's
    thread."""

    prompt_tokens: int
    reused_tokens: int
    queue_seconds: float
    """From the request's arrival to its first call into the model."""
    prefill_seconds: float
    """From there to the choice of its first token."""


End = FinishReason | int | None
"""How a request ended: by itself, with the status of an error, or None if its client left."""


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A request ended or was refused. Reported in the network's thread, once for each."""

    request_id: str
    end: End
    prompt_tokens: int = 0
    """0 if it was not tokenised."""
    reused_tokens: int = 0
    generated_tokens: int = 0
    queue_seconds: float = 0.0
    """These three add up to its whole time; a phase that it did not reach is 0."""
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """From its arrival to its end."""
        return self.queue_seconds + self.prefill_seconds + self.decode_seconds


Fact = StepTaken | PrefillDone | RequestEnded
Observe = Callable[[Fact], None]
"""Takes a fact, in the engine's thread between two calls into the model or in the network's: it
must be quick and may not wait."""


def unobserved(fact: Fact) -> None:
    """Ignores a fact."""


class Activity(Enum):
    """What a request with a slot is doing."""

    QUEUE = "queue"
    """Its prompt is being tokenised, or waits for other prompts or for memory."""
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class SlotState:
    """The state of a request's slot at this moment."""

    request_id: str
    activity: Activity
    prompt_tokens: int
    """0 while the prompt is being tokenised."""
    read_tokens: int
    """Tokens of the prompt that were read or reused."""
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
    """The share of `slots` whole contexts that running sequences hold, 0 to 1."""
