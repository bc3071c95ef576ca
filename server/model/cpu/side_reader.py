"""Reads prompts beside other calls: in threads of its own, on cores of its own.

Knows one prompt at a time; does not know what runs beside it.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import TypeVar

import numpy as np

from server.model.cpu.graph_calls import GraphCalls
from server.model.tensor_types import Logits, Tokens

T = TypeVar("T")


class SideReader:
    """Calls of a session that has some of the cores to itself."""

    def __init__(self, open_calls: Callable[[], tuple[GraphCalls, GraphCalls]]) -> None:
        """`open_calls` opens sessions, and returns calls on the reader's cores and on the others.
        It runs in a thread of its own; what needs the calls waits for it, and raises its errors."""
        self._opening = _begun(open_calls)
        self._logits = np.empty((1, 0, 0), np.float32)
        """Memory for the logits of all reads, since a binding of `calls` keeps what is bound."""
        self._read: SideRead | None = None
        self.waited_seconds = 0.0
        """Seconds that others have waited for results."""

    @property
    def calls_beside(self) -> GraphCalls:
        """Calls with the cores that the reader leaves."""
        return self._opening.result()[1]

    @property
    def busy(self) -> bool:
        """Whether a prompt is being read."""
        return self._read is not None and not self._read.done

    def begin(self, slot: int, past: int, tokens: Tokens) -> "SideRead":
        """Begins to read `tokens` [n] into a slot, after its first `past` ones."""
        calls, _ = self._opening.result()
        shape = calls.logits_shape(len(tokens), logits_to_keep=1)
        if shape[1] > self._logits.shape[1]:
            self._logits = np.empty(shape, np.float32)
        logits = self._logits[:, : shape[1]]
        seconds = _begun(partial(calls.prefill, slot, past, tokens, 1, logits))
        self._read = SideRead(self, logits, seconds)
        return self._read


def _begun(work: Callable[[], T]) -> Future[T]:
    """Begins some work in a thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    # No daemon: of the processes that ended during a call, one in six crashed.
    Thread(target=run, name="side-reader").start()
    return future


@dataclass(frozen=True, slots=True)
class SideRead:
    """`SideRead` of `server.engine.decoder`."""

    reader: SideReader
    logits: Logits
    seconds: Future[float]

    @property
    def done(self) -> bool:
        return self.seconds.done()

    def result(self) -> tuple[Logits, float]:
        """Returns logits [1, V]."""
        start = time.perf_counter()
        seconds = self.seconds.result()
        self.reader.waited_seconds += time.perf_counter() - start
        return self.logits[0, -1:].copy(), seconds
