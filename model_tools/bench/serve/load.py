"""Clients together: so many at once, or as they happen to come. Knows trio; reads no answer."""

import gc
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import trio

T = TypeVar("T")
Send = Callable[[T, float], Awaitable[None]]
"""Takes a request and when it is due, in seconds as `time.perf_counter` has them."""


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Each client asks, waits for the end of the answer, and asks again."""

    clients: int

    @property
    def name(self) -> str:
        return f"{self.clients} clients" if self.clients > 1 else "1 client"

    @property
    def size(self) -> float:
        """Where it stands among others of its kind."""
        return self.clients

    async def run(
        self,
        requests: Sequence[T],
        send: Send[T],
        seed: str,  # noqa: ARG002 nothing is drawn
    ) -> None:
        waiting = iter(requests)
        async with trio.open_nursery() as nursery:
            for _ in range(min(self.clients, len(requests))):
                nursery.start_soon(_client, waiting, send)


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests come at random, however many are still unanswered: a Poisson process."""

    rate: float
    """Requests per second."""

    @property
    def name(self) -> str:
        return f"{self.rate:g} requests/s"

    @property
    def size(self) -> float:
        return self.rate

    async def run(self, requests: Sequence[T], send: Send[T], seed: str) -> None:
        source = random.Random(seed)  # noqa: S311 no secret
        begin, now = time.perf_counter(), trio.current_time()
        after = 0.0
        async with trio.open_nursery() as nursery:
            for request in requests:
                await trio.sleep_until(now + after)
                # By when it was due, not by when it came: being late neither adds up nor is lost.
                nursery.start_soon(send, request, begin + after)
                after += source.expovariate(self.rate)


Load = ClosedLoop | OpenLoop


async def _client(waiting: Iterator[T], send: Send[T]) -> None:
    for request in waiting:
        await send(request, time.perf_counter())


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection stops a client in the middle of an answer."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
