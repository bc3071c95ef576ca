"""A runner in a process of its own: engines that are compared share no memory, no allocator and no
threads, and none of them depends on which was loaded first.

Knows processes and pipes, no engine.
"""

import gc
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol, Self

from model_tools.bench.engine.workload import Prompts, Timing
from server.errors import StartError

_REST = 0.1
"""Seconds before each run. The threads of the engine that ran before it wait without sleeping for a
while, and would take its cores: its first steps took twice as long."""


class Named(Protocol):
    @property
    def name(self) -> str: ...


class OwnProcess:
    """What `make`, which can be pickled, makes over there: a runner, or what else is measured.
    Lasts as its `with` block."""

    def __init__(self, make: Callable[[], Named]) -> None:
        """Raises `StartError` if `make` does."""
        # Not a fork: the parent may have loaded a runtime, whose threads would be missing.
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, other_end), daemon=True)
        with _deaf_to_interrupts():
            self._process.start()
        other_end.close()
        try:
            self.name: str = self.ask("name")
        except StartError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process, and the run that it may be in the middle of."""
        self._process.terminate()
        self._process.join()
        self._connection.close()

    @property
    def setting(self) -> str:
        return str(self.ask("setting"))

    def read(self, prompts: Prompts, new_tokens: int) -> Timing:
        timing: Timing = self.run("read", prompts, new_tokens)
        return timing

    def generate(self, prompts: Prompts, new_tokens: int) -> Timing:
        timing: Timing = self.run("generate", prompts, new_tokens)
        return timing

    def ask(self, attribute: str) -> Any:
        """An attribute of the runner."""
        return self._call(attribute)

    def run(self, method: str, *arguments: object) -> Any:
        """What a method of the runner returns."""
        time.sleep(_REST)
        return self._call(method, *arguments)

    def _call(self, name: str, *arguments: object) -> Any:
        """Raises `StartError` if the runner does."""
        try:
            self._connection.send((name, arguments))
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise StartError("an engine's process ended") from None
        if isinstance(answer, StartError):
            raise answer
        return answer


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started in the block hears no Ctrl-C, from its first import on: the terminal sends it
    to the parent as well, with whom it ends."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _serve(make: Callable[[], Named], connection: Connection) -> None:
    """Answers until nobody asks any more, or hears the answer: the parent may have been killed."""
    with suppress(EOFError, ConnectionError):
        try:
            runner = make()
            # As a server does once it is loaded: no collection goes through what stays.
            gc.collect()
            gc.freeze()
            while True:
                name, arguments = connection.recv()
                attribute = getattr(runner, name)
                connection.send(attribute(*arguments) if callable(attribute) else attribute)
        except StartError as error:
            connection.send(error)
