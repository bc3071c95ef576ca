"""The engine as the network sees it: requests in, events out. The engine's one door to trio.

Knows text, tokens and threads; does not know HTTP, JSON or the model's runtime.
"""

import itertools
from collections.abc import AsyncIterator
from collections.abc import Sequence as Ids
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

import numpy as np
import trio

from server.config import EngineConfig
from server.engine.core import EngineCore
from server.engine.decoder import Decoder, Tokens
from server.engine.events import Event, Failed, Finished
from server.engine.request import GenerationRequest
from server.engine.sampling import Sampler
from server.engine.scheduler import PromptBudget
from server.engine.sequence import Sequence
from server.engine.text import IncrementalText
from server.engine.thread import EngineThread
from server.errors import ClientError

_LONGEST_STOP = 0.7
"""Seconds; the process is to end within one."""

ENGINE_LOST = Failed(500, "The engine was lost")


class Tokenizer(Protocol):
    """What the engine needs of `server.model.tokenizer`."""

    @property
    def longest_token_bytes(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: Ids[int]) -> str: ...


class EngineLost(Exception):
    """The engine's thread ended by itself; its log line says why."""


class Engine:
    """Runs requests while `running` is entered, from one trio thread.

    async with engine.running():
        async with engine.generate(request) as events:
            async for event in events: ...
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        config: EngineConfig,
        eos_token_ids: frozenset[int],
    ) -> None:
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._config = config
        self._eos_token_ids = frozenset() if config.ignore_eos else eos_token_ids
        self._one_encoding = trio.CapacityLimiter(1)
        self._keys = itertools.count()
        self._streams: dict[int, trio.MemorySendChannel[Event]] = {}
        self._lost = trio.Event()
        core = EngineCore(decoder, self._deliver, PromptBudget())
        self._thread = EngineThread(core, self._tell_lost)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The engine's life. If its thread ends by itself, the block is cancelled, and an
        `EngineLost` comes out of it in an exception group."""
        self._trio = trio.lowlevel.current_trio_token()
        self._thread.start()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                yield
                nursery.cancel_scope.cancel()
        finally:
            self._thread.stop()
            self._decoder.interrupt()
            # The call under way ends between two operators; one that never ends is left behind.
            with trio.move_on_after(_LONGEST_STOP, shield=True):
                await trio.to_thread.run_sync(self._thread.join, abandon_on_cancel=True)

    @asynccontextmanager
    async def generate(self, request: GenerationRequest) -> AsyncIterator[AsyncIterator[Event]]:
        """Events of one request: any number of `Text`, then exactly one terminal event.

        Leaving the block cancels what still runs. Entering raises `ClientError` (400) for a prompt
        that has no tokens or does not fit the context.
        """
        prompt = await self._encode(request)
        sequence = self._sequence(request, prompt)
        # Room for all that the request can cause: delivering never waits for a slow client.
        send, receive = trio.open_memory_channel[Event](sequence.max_tokens + 2)
        self._streams[sequence.key] = send
        self._thread.submit(sequence)
        try:
            yield receive
        finally:
            if self._streams.pop(sequence.key, None):
                self._thread.cancel(sequence.key)

    async def _encode(self, request: GenerationRequest) -> Tokens:
        """Tokens of the prompt, made off the event loop, one prompt at a time."""
        context, field = self._config.context, request.prompt_field
        size = len(request.prompt.encode())
        if size > context * self._tokenizer.longest_token_bytes:
            raise ClientError(
                400, f"{field}: {size} bytes are more than the context of {context} tokens can hold"
            )
        encode = partial(self._tokenizer.encode, request.prompt)
        tokens = await trio.to_thread.run_sync(
            encode, limiter=self._one_encoding, abandon_on_cancel=True
        )
        if not tokens:
            raise ClientError(400, f"{field}: has no tokens")
        if len(tokens) >= context:
            raise ClientError(
                400,
                f"{field}: {len(tokens)} tokens are too many: with a context of {context} tokens"
                f" a prompt has at most {context - 1}",
            )
        return np.array(tokens, np.int64)

    def _sequence(self, request: GenerationRequest, prompt: Tokens) -> Sequence:
        return Sequence(
            key=next(self._keys),
            prompt=prompt,
            max_tokens=min(request.max_tokens, self._config.context - len(prompt)),
            eos_token_ids=self._eos_token_ids,
            sampler=Sampler(request.sampling, prompt),
            text=IncrementalText(self._tokenizer.decode),
        )

    def _deliver(self, events: list[tuple[int, Event]]) -> None:
        """In the engine's thread: hands the events over in one wake-up of the network's."""
        self._trio.run_sync_soon(self._receive, events)

    def _receive(self, events: list[tuple[int, Event]]) -> None:
        for key, event in events:
            if stream := self._streams.get(key):
                stream.send_nowait(event)
                if isinstance(event, Finished | Failed):
                    del self._streams[key]
                    stream.close()

    def _tell_lost(self) -> None:
        """In the engine's thread, as its last act."""
        self._trio.run_sync_soon(self._lost.set)

    async def _watch(self) -> None:
        await self._lost.wait()
        self._receive([(key, ENGINE_LOST) for key in self._streams])
        raise EngineLost
