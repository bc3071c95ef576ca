"""Runs a runner in a process of its own: engines that are compared share no memory, allocator or
threads, and the order in which they are loaded does not matter.

Knows processes and pipes; does not know engines.
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
"""Pause before each run, in seconds. The threads of the engine that ran before spin for a while and
occupy cores: without a pause, the first steps took twice as long."""


class Named(Protocol):
    @property
    def name(self) -> str: ...


class OwnProcess:
    """A proxy for an object in another process: a runner, or whatever else is measured. `make`,
    which must be picklable, creates it there. The process lives as long as the `with` block."""

    def __init__(self, make: Callable[[], Named]) -> None:
        """Raises `StartError` if `make` does."""
        # Not a fork: the child would lack the threads of a runtime that the parent has loaded.
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, other_end), daemon=True)
        with _ignored_interrupts():
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
        """Terminates the process, even in the middle of a run."""
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
        """Returns an attribute of the object. Raises `StartError`."""
        return self._call(attribute)

    def run(self, method: str, *arguments: object) -> Any:
        """Calls a method of the object after a pause, and returns its result. Raises
        `StartError`."""
        time.sleep(_REST)
        return self._call(method, *arguments)

    def _call(self, name: str, *arguments: object) -> Any:
        """Raises `StartError` if the object does, or if its process has ended."""
        try:
            self._connection.send((name, arguments))
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise StartError("an engine's process ended") from None
        if isinstance(answer, StartError):
            raise answer
        return answer


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """A process that is started in the block ignores Ctrl-C from its first import on. The terminal
    sends it to the parent as well, which terminates the child."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _serve(make: Callable[[], Named], connection: Connection) -> None:
    """Answers calls until the pipe is closed, in either direction: the parent may have been
    killed."""
    with suppress(EOFError, ConnectionError):
        try:
            runner = make()
            # As a server does once it has loaded: garbage collections then skip long-lived objects.
            gc.collect()
            gc.freeze()
            while True:
                name, arguments = connection.recv()
                attribute = getattr(runner, name)
                connection.send(attribute(*arguments) if callable(attribute) else attribute)
        except StartError as error:
            connection.send(error)
