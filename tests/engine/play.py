"""Runs the engine's core over the fake decoder: visitors come and go at any call."""

from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence as Ids
from dataclasses import dataclass, replace

import numpy as np

from server.config import PrefixCacheConfig, PrefixReuse, SamplingParameters
from server.engine.core import EngineCore
from server.engine.drafter import Drafter
from server.engine.events import EngineMessage, Event, Finished, FinishReason, Progress, Text
from server.engine.facts import Observe, unobserved
from server.engine.pace import Pace
from server.engine.sampling import Sampler
from server.engine.sequence import Sequence
from server.engine.windowed_text import Decode, WindowedText
from tests.engine.fake_decoder import FakeDecoder, History
from tests.engine.paces import SteadyPacer, tokens_a_step, tokens_beside

EOS = frozenset({7, 19})
GREEDY = SamplingParameters()
NO_REUSE = PrefixCacheConfig(PrefixReuse.OFF)
BESIDE, IN_STEPS = tokens_beside(alone=24, beside=20), tokens_a_step(alone=24, beside_streams=8)
"""Prompts are read beside streams, where the decoder can do that, or in their steps."""


def text_of(tokens: Ids[int]) -> str:
    """A character for each token."""
    return "".join(chr(0x4E00 + token) for token in tokens)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A request; its time is counted in the calls that the engine has run."""

    key: int
    prompt: History
    max_tokens: int
    sampling: SamplingParameters = GREEDY
    eos: frozenset[int] = EOS
    arrives: int = 0
    leaves: int | None = None
    decode: Decode = text_of
    drafter: Callable[[History], Drafter] | None = None
    """Makes one for a prompt."""


class Play:
    """Plays `visitors` to their end; then `events` has all that each was told."""

    def __init__(
        self,
        visitors: Ids[Visitor],
        decoder: FakeDecoder,
        prefix_cache: PrefixCacheConfig = NO_REUSE,
        observe: Observe = unobserved,
        pace: Pace = BESIDE,
    ) -> None:
        self.events: defaultdict[int, list[Event]] = defaultdict(list)
        self.progress: defaultdict[int, list[Progress]] = defaultdict(list)
        self.token_times: defaultdict[int, list[float]] = defaultdict(list)
        """When each visitor got its tokens."""
        self.calls_when_left: dict[int, int] = {}
        """How many calls there had been when a visitor left early."""
        self.calls_when_listening: list[int] = []
        self._decoder = decoder
        self._visitors = visitors
        # Time passes in calls only.
        pacer = SteadyPacer(pace, clock=lambda: decoder.runtime_seconds)
        self.core = EngineCore(decoder, self._deliver, pacer, prefix_cache, observe)
        self._time = -1

    def run(self) -> "Play":
        last = max((visitor.arrives for visitor in self._visitors), default=0)
        self.listen()
        while self.core.busy or self._time < last:
            if self.core.busy:
                self.core.step(self.listen)
            else:
                self.listen()
        return self

    def listen(self) -> None:
        self._time += 1
        self.calls_when_listening.append(len(self._decoder.calls))
        for visitor in self._visitors:
            if visitor.arrives == self._time:
                self.core.submit(sequence_of(visitor))
            if visitor.leaves == self._time:
                self.core.cancel(visitor.key)
                self.calls_when_left[visitor.key] = len(self._decoder.calls)

    def _deliver(self, messages: list[tuple[int, EngineMessage]]) -> None:
        for key, each in messages:
            if is_token(each):
                self.token_times[key].append(self._decoder.runtime_seconds)
        for key, each in messages:
            assert key not in self.calls_when_left, "told after it left"
            if isinstance(each, Progress):
                self.progress[key].append(each)
            else:
                self.events[key].append(each)


def is_token(message: EngineMessage) -> bool:
    """Each token has a text of its own here, but for the one that ends a text."""
    if isinstance(message, Finished):
        return message.reason is FinishReason.STOP
    return isinstance(message, Text) or message is Progress.SILENT


def sequence_of(visitor: Visitor) -> Sequence:
    prompt = np.array(visitor.prompt, np.int64)
    return Sequence(
        key=visitor.key,
        prompt=prompt,
        max_tokens=visitor.max_tokens,
        eos_token_ids=visitor.eos,
        sampler=Sampler(visitor.sampling, prompt),
        text=WindowedText(visitor.decode),
        arrived=-1.0,
        drafter=visitor.drafter(visitor.prompt) if visitor.drafter else None,
    )


def events_alone(visitor: Visitor) -> list[Event]:
    """What the visitor is told with nobody else there, token by token."""
    alone = replace(visitor, arrives=0, leaves=None, drafter=None)
    return Play([alone], FakeDecoder(slots=1)).run().events[visitor.key]
