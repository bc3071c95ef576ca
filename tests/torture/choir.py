"""Canaries in a process of their own, so that attackers' CPU time does not delay them."""

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

import trio

from tests.torture.canary import PROMPTS, TOKENS, Canary
from tests.torture.client import HOST, ask

_READ = 65536


@dataclass(frozen=True, slots=True)
class Choir:
    """The canaries' process. Their times are those of `time.monotonic`, as in every process."""

    _pipe: Connection

    async def begin(self, port: int) -> None:
        """Start the canaries; return once all of them have received a token."""
        self._pipe.send(port)
        await trio.to_thread.run_sync(self._pipe.recv)

    async def end(self) -> list[Canary]:
        """Stop the canaries; return them with what each received."""
        self._pipe.send(None)
        canaries: list[Canary] = await trio.to_thread.run_sync(self._pipe.recv)
        return canaries


@contextmanager
def choir() -> Iterator[Choir]:
    """Start the process. Enter before this one lowers its priority, which children inherit."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_live, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Choir(ours)
    finally:
        ours.close()
        process.join()


def _live(pipe: Connection) -> None:
    """For each port received, run canaries against it until the next message."""
    while True:
        try:
            port = pipe.recv()
        except EOFError:
            return
        with ExitStack() as stack:
            pipe.send(_sing(port, pipe, stack))


def _sing(port: int, pipe: Connection, stack: ExitStack) -> list[Canary]:
    canaries = [Canary(prompt) for prompt in PROMPTS]
    selector = stack.enter_context(selectors.DefaultSelector())
    selector.register(pipe, selectors.EVENT_READ)
    for canary in canaries:
        stream = stack.enter_context(socket.create_connection((HOST.decode(), port)))
        stream.sendall(ask(canary.prompt, TOKENS))
        while not canary.arrivals and (data := stream.recv(_READ)):
            canary.hear(data, time.monotonic())
        selector.register(stream, selectors.EVENT_READ, canary)
    pipe.send("all sing")
    while not pipe.poll():
        for key, _ in selector.select():
            if key.fileobj is not pipe:
                _listen(selector, key)
    pipe.recv()
    return canaries


def _listen(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    data = key.fileobj.recv(_READ)  # type: ignore[union-attr]
    key.data.hear(data, time.monotonic())
    if not data:
        selector.unregister(key.fileobj)
