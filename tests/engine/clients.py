"""Clients of the engine's front, and what each is to be told."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps

import trio
from trio.testing import MockClock

from server.config import EngineConfig, EngineLimits, SamplingParameters
from server.engine.decoder import Decoder
from server.engine.engine import Engine
from server.engine.events import Event, Finished, FinishReason, NotTaken, Text
from server.engine.facts import Observe, unobserved
from server.engine.request import GenerationRequest
from server.engine.text import BytesOf
from tests.engine.fake_decoder import greedy_tokens
from tests.engine.play import EOS, text_of


@dataclass
class FakeTokenizer:
    """A token for each letter, a to z and then some. `on_encode` may wait or act."""

    on_encode: Callable[[], object] = lambda: None
    bytes_of: BytesOf | None = None
    encoded: list[str] = field(default_factory=list)

    def encode(self, text: str) -> list[int]:
        self.encoded.append(text)
        self.on_encode()
        return [ord(letter) - ord("a") for letter in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return text_of(tokens)


def in_trio(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Runs an async test; one that hangs fails."""

    @wraps(test)
    def run() -> None:
        async def main() -> None:
            with trio.fail_after(20):
                await test()

        trio.run(main)

    return run


def on_clock(test: Callable[[MockClock], Awaitable[None]]) -> Callable[[], None]:
    """Runs an async test in which time passes only where the clock jumps."""

    def run() -> None:
        clock = MockClock()
        trio.run(test, clock, clock=clock)

    run.__name__ = test.__name__
    return run


def engine_of(
    decoder: Decoder,
    tokenizer: FakeTokenizer | None = None,
    *,
    ignore_eos: bool = False,
    speculate: int = 0,
    limits: EngineLimits | None = None,
    observe: Observe = unobserved,
) -> Engine:
    config = EngineConfig(
        decoder.slots,
        decoder.context,
        ignore_eos=ignore_eos,
        speculate=speculate,
        limits=limits or EngineLimits(),
    )
    model = decoder, tokenizer or FakeTokenizer()
    return Engine(lambda: model, config, EOS, observe)


def asks(prompt: str, max_tokens: int = 1000) -> GenerationRequest:
    return GenerationRequest("id", prompt, "raw_prompt", max_tokens, SamplingParameters())


def expected(prompt: str, count: int, eos: frozenset[int] = EOS) -> list[Event]:
    """What the client of a greedy request is told."""
    tokens = greedy_tokens(tuple(ord(letter) - ord("a") for letter in prompt), count, eos)
    stopped = tokens[-1] in eos
    texts = [Text(text_of([token])) for token in (tokens[:-1] if stopped else tokens)]
    reason = FinishReason.STOP if stopped else FinishReason.LENGTH
    return [*texts, Finished(reason, len(prompt), len(tokens))]


async def heard(events: AsyncIterator[list[Event]]) -> list[Event]:
    """All that is still to come."""
    return [event async for batch in events for event in batch]


async def told(engine: Engine, request: GenerationRequest) -> list[Event]:
    try:
        async with engine.generate(request) as events:
            return await heard(events)
    except NotTaken as refusal:
        return [refusal.failed]


class Held:
    """Lets calls, or encodings, begin and holds each until it is let go."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self._goes_on = threading.Event()
        self._token = trio.lowlevel.current_trio_token()

    def __call__(self, number: int = 0) -> None:
        self._token.run_sync_soon(self.begun.set)
        assert self._goes_on.wait(timeout=10)

    def let_go(self) -> None:
        self._goes_on.set()


def passing(clock: MockClock, seconds: float) -> Callable[[int], None]:
    """Each call takes so long."""
    token = trio.lowlevel.current_trio_token()
    return lambda number: trio.from_thread.run_sync(clock.jump, seconds, trio_token=token)


async def collect(engine: Engine, prompt: str, given: dict[str, list[Event]]) -> None:
    given[prompt] = await told(engine, asks(prompt, max_tokens=5))
