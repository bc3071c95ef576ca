"""One request while it runs: the engine's mutable state, and the rules by which it ends.

Knows sampling and text; does not know slots or the order in which sequences run.
"""

from collections.abc import Set
from dataclasses import dataclass, field

from server.engine.drafter import Drafter
from server.engine.events import Event, Finished, FinishReason, Text
from server.engine.lookup import Draft
from server.engine.sampling import Sampler
from server.engine.text import IncrementalText
from server.model.tensor_types import Tokens


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt and what was generated after it."""

    key: int
    prompt: Tokens
    max_tokens: int
    """New tokens at most; prompt and new tokens together fit the context."""
    eos_token_ids: Set[int]
    """Ids that end the text; empty to go on whatever the model says."""
    sampler: Sampler
    text: IncrementalText
    drafter: Drafter | None = None
    """Guesses tokens that one call then verifies; None to decode one by one."""
    read: int = 0
    """Tokens of the prompt that the slot holds: read by calls that succeeded, or reused."""
    reused: int = 0
    """How many of them came from another sequence."""
    generated: list[int] = field(default_factory=list)
    arrived: float = 0.0
    """When its request came; seconds, as all times here."""
    begun: float | None = None
    """When reading the prompt began."""
    first_token: float | None = None
    """When the prompt was read whole, and its first token chosen unless that failed."""
    latest_token: float = 0.0
    """When the call that gave the newest token had run."""
    ended: bool = False

    @property
    def past(self) -> int:
        """Tokens in the slot before the next decode call, which reads the newest one."""
        return len(self.prompt) + len(self.generated) - 1

    @property
    def max_total_tokens(self) -> int:
        """Tokens of prompt and answer, if nothing ends it before."""
        return len(self.prompt) + self.max_tokens

    @property
    def goes_on(self) -> bool:
        """Whether it is decoded again after the next decode call, if nothing ends it before."""
        return len(self.generated) + 1 < self.max_tokens

    @property
    def held(self) -> int:
        """Tokens whose keys and values the slot holds."""
        return self.read + max(len(self.generated) - 1, 0)

    def draft(self) -> Draft:
        """Tokens that may come next, to be verified in one call; they and one more still fit."""
        room = self.max_tokens - len(self.generated) - 1
        if self.drafter is None or not self.generated or not room:
            return ()
        return self.drafter.draft(self.generated, room)

    def as_far_as_it_goes(self, tokens: list[int | None]) -> list[int | None]:
        """The verified tokens up to the first that ends the text, that one included."""
        ends = [index for index, token in enumerate(tokens) if token in self.eos_token_ids]
        return tokens[: ends[0] + 1] if ends else tokens

    def accept(self, token: int) -> list[Event]:
        """Appends the next token; returns the events that it causes, with the terminal one."""
        self.generated.append(token)
        if token in self.eos_token_ids:
            return self._finish(FinishReason.STOP)
        text = self.text.push(token)
        events: list[Event] = [Text(text)] if text else []
        if len(self.generated) == self.max_tokens:
            events += self._finish(FinishReason.LENGTH)
        return events

    def _finish(self, reason: FinishReason) -> list[Event]:
        self.ended = True
        rest = self.text.flush()
        finished = Finished(reason, len(self.prompt), len(self.generated), self.reused)
        return [Text(rest), finished] if rest else [finished]
