"""Loads: a fixed number of clients, or random arrivals. Knows trio; does not know answers."""

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
"""Sends a request that is due at a time of `time.perf_counter`, in seconds."""


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Each client asks, waits for the end of the answer, and asks again."""

    clients: int

    @property
    def name(self) -> str:
        return f"{self.clients} clients" if self.clients > 1 else "1 client"

    @property
    def size(self) -> float:
        """The load's position on the axis of a plot."""
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
    """Requests arrive at random, as a Poisson process, however many are still unanswered."""

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
                # Counts from the due time, not from now: delays neither add up nor stay unmeasured.
                nursery.start_soon(send, request, begin + after)
                after += source.expovariate(self.rate)


Load = ClosedLoop | OpenLoop


async def _client(waiting: Iterator[T], send: Send[T]) -> None:
    for request in waiting:
        await send(request, time.perf_counter())


@contextmanager
def undisturbed() -> Iterator[None]:
    """Disables garbage collection, which would delay clients in the middle of an answer."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
