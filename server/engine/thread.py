"""The one thread that runs the engine, and the inbox for messages to it.

Knows threads and queues; does not know trio, HTTP or the model.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from server.engine.core import EngineCore
from server.engine.sequence import Sequence
from server.errors import Interrupted

log = logging.getLogger(__name__)

REST_AFTER = 1.0
"""Seconds without work until memory that is kept for the next sequences is given back."""


@dataclass(frozen=True, slots=True)
class _Submit:
    sequence: Sequence


@dataclass(frozen=True, slots=True)
class _Cancel:
    key: int


@dataclass(frozen=True, slots=True)
class _Ask:
    answer: Callable[[], None]


class _Stop(Exception):
    """A message, and the exception that is raised in the thread when it arrives."""


_Message = _Submit | _Cancel | _Ask | _Stop


class EngineThread:
    """Steps while there is work and sleeps while there is none.

    One thread for its whole life: CUDA's captured graphs and ONNX Runtime's caches belong to one.
    """

    def __init__(self, on_lost: Callable[[], None], rest_after: float = REST_AFTER) -> None:
        """`on_lost` is called in the thread when an error ends it, `Interrupted` excepted."""
        self._on_lost = on_lost
        self._rest_after = rest_after
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()

    def start(self, core: EngineCore, warm_up: Callable[[], bool]) -> None:
        """Starts the thread. It first calls `warm_up` and ends if that returns False; messages sent
        before then wait in the inbox."""
        self._core = core
        self._warm_up = warm_up
        # A daemon, so that a call that never returns does not keep the process.
        self._thread = threading.Thread(target=self._live, name="engine", daemon=True)
        self._thread.start()

    def submit(self, sequence: Sequence) -> None:
        """Safe from any thread, as `cancel`, `ask` and `stop` are."""
        self._inbox.put(_Submit(sequence))

    def cancel(self, key: int) -> None:
        self._inbox.put(_Cancel(key))

    def ask(self, answer: Callable[[], None]) -> None:
        """Has the thread call `answer` as soon as it is in no call into the model."""
        self._inbox.put(_Ask(answer))

    def stop(self) -> None:
        """Makes the thread end after the calls under way."""
        self._inbox.put(_Stop())

    def join(self) -> None:
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def _live(self) -> None:
        try:
            if not self._warm_up():
                return
            while True:
                self._wait()
                self._listen()
                self._core.step(self._listen)
        except (_Stop, Interrupted):
            return
        except BaseException:
            log.exception("the engine is lost")
            self._on_lost()
        finally:
            self._core.wait_for_beside()

    def _listen(self) -> None:
        """Handles all messages that are there."""
        while not self._inbox.empty():
            self._take(self._inbox.get())

    def _wait(self) -> None:
        """Waits until there is work. Questions, which come at any time, do not put the rest off."""
        rest_at = time.monotonic() + self._rest_after
        try:
            while not self._core.busy:
                self._take(self._inbox.get(timeout=max(rest_at - time.monotonic(), 0)))
        except queue.Empty:
            self._core.rest()
            while not self._core.busy:
                self._take(self._inbox.get())

    def _take(self, message: _Message) -> None:
        match message:
            case _Submit(sequence):
                self._core.submit(sequence)
            case _Cancel(key):
                self._core.cancel(key)
            case _Ask(answer):
                answer()
            case _Stop():
                raise message
