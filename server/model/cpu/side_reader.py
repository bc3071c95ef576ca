"""Reads prompts beside other calls: in threads of its own, on cores of its own.

Knows one prompt at a time; does not know what runs beside it.
"""

import time
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread

import numpy as np

from server.model.cpu.graph_calls import GraphCalls
from server.model.tensor_types import Logits, Tokens


class SideReader:
    """Calls of a session that has some of the cores to itself."""

    def __init__(self, calls: GraphCalls) -> None:
        self._calls = calls
        self._logits = np.empty((1, 0, 0), np.float32)
        """Memory for the logits of all reads, since a binding of `calls` keeps what is bound."""
        self._read: SideRead | None = None
        self.waited_seconds = 0.0
        """Seconds that others have waited for results."""

    @property
    def busy(self) -> bool:
        """Whether a prompt is being read."""
        return self._read is not None and not self._read.done

    def begin(self, slot: int, past: int, tokens: Tokens) -> "SideRead":
        """Begins to read `tokens` [n] into a slot, after its first `past` ones."""
        shape = self._calls.logits_shape(len(tokens), logits_to_keep=1)
        if shape[1] > self._logits.shape[1]:
            self._logits = np.empty(shape, np.float32)
        read = SideRead(self, self._logits[:, : shape[1]], Future())
        arguments = (read.seconds, slot, past, tokens, read.logits)
        # No daemon: of the processes that ended during a call, one in six crashed.
        Thread(target=self._run, args=arguments, name="side-reader").start()
        self._read = read
        return read

    def _run(
        self, seconds: Future[float], slot: int, past: int, tokens: Tokens, logits: Logits
    ) -> None:
        try:
            seconds.set_result(self._calls.prefill(slot, past, tokens, 1, logits))
        except BaseException as error:
            seconds.set_exception(error)


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
