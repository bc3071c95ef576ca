"""Runs sequences on the engine's core. Does not know its thread, a network or text."""

import itertools
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from server.config import GAP_STRETCH, PrefixCacheConfig, PrefixReuse, SamplingParameters
from server.engine.core import EngineCore
from server.engine.decoder import Decoder
from server.engine.events import EngineMessage, Failed
from server.engine.pacer import Pacer
from server.engine.sampling import Sampler
from server.engine.sequence import Sequence
from server.engine.windowed_text import WindowedText
from server.model.runtime import first_line
from server.model.tensor_types import Tokens

GREEDY = SamplingParameters()
NewSampler = Callable[[SamplingParameters, Tokens], Sampler]
"""Makes the sampler of a request, for its prompt."""
_UNTIMED = 8
"""Steps to warm up before those that are timed."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Mean seconds of one step."""

    step: float
    runtime: float
    """The part that was spent in the runtime's call."""


class Streams:
    """An engine core and its sequences. `submit` and `cancel` are called between steps, as by the
    engine's thread. A sequence that fails ends the step with a `RuntimeError`: the core goes on
    without it, so that a wait for it would never end, and the steps of fewer would be timed."""

    def __init__(
        self,
        decoder: Decoder,
        reuse: PrefixReuse = PrefixReuse.PROMPTS,
        sampler: NewSampler = Sampler,
    ) -> None:
        self._decoder = decoder
        self._sampler = sampler
        config = PrefixCacheConfig(reuse, 64 << 20)
        self._core = EngineCore(decoder, _refuse_failures, Pacer(GAP_STRETCH), config)
        self._keys = itertools.count()

    @property
    def busy(self) -> bool:
        return self._core.busy

    def submit(
        self, prompt: Tokens, new_tokens: int, sampling: SamplingParameters = GREEDY
    ) -> Sequence:
        sequence = Sequence(
            key=next(self._keys),
            prompt=prompt,
            max_tokens=new_tokens,
            eos_token_ids=frozenset(),
            sampler=self._sampler(sampling, prompt),
            text=WindowedText(_unread),
        )
        self._core.submit(sequence)
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        self._core.cancel(sequence.key)

    def step(self) -> None:
        self._core.step(lambda: None)

    def finish(self) -> None:
        while self.busy:
            self.step()

    def begin(self, sequences: Collection[Sequence]) -> None:
        """Steps until each of `sequences` has its first token."""
        while not all(sequence.generated for sequence in sequences):
            self.step()

    def timed(self, steps: int) -> Timing:
        """Times `steps` steps; all sequences must be decoding."""
        for _ in range(_UNTIMED):
            self.step()
        begin, runtime = time.perf_counter(), self._decoder.runtime_seconds
        for _ in range(steps):
            self.step()
        seconds = time.perf_counter() - begin
        return Timing(seconds / steps, (self._decoder.runtime_seconds - runtime) / steps)


def alone(
    decoder: Decoder, prompt: Tokens, new_tokens: int, sampling: SamplingParameters = GREEDY
) -> Tokens:
    """Tokens of a request that runs alone. Raises `RuntimeError` if it fails."""
    streams = Streams(decoder, PrefixReuse.OFF)
    sequence = streams.submit(prompt, new_tokens, sampling)
    streams.finish()
    return np.array(sequence.generated)


def room_for(prompt: int, batch: int, steps: int) -> int:
    """Context, in tokens, of the sequence that begins first and decodes while the others begin."""
    return prompt + _UNTIMED + steps + 4 * batch + 16


def random_prompt(vocabulary_size: int, length: int, seed: int = 0) -> Tokens:
    """Random tokens, the same for the same seed; at least 2, since attention takes another path
    for a single token."""
    return np.random.default_rng(seed).integers(0, vocabulary_size, max(length, 2))


def _refuse_failures(messages: list[tuple[int, EngineMessage]]) -> None:
    """Receives what the core delivers. Raises `RuntimeError` if a sequence has failed."""
    if any(isinstance(message, Failed) for _, message in messages):
        error = sys.exception()  # the core delivers while it handles the call's
        reason = f": {first_line(error)}" if isinstance(error, Exception) else ""
        raise RuntimeError(f"the model failed, or its logits are no numbers{reason}")


def _unread(tokens: Collection[int]) -> str:
    return "." * len(tokens)
