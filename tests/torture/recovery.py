"""Whether the server is as it was, seen from outside: what must hold after every attack."""

from dataclasses import dataclass

import trio

from tests.torture.client import HEALTH, HEALTHY, Target, ask, read_until, receive, send
from tests.torture.victim import PHASE_SECONDS, SLOTS, Victim

_CONNECTIONS = 500
_HEALTH_SECONDS = 1.0
_SLOTS_SECONDS = 3.0
_FILES_SECONDS = PHASE_SECONDS + 2.0
_LONG = 2000
"""Tokens; no stream of so many ends while slots are counted."""
_MEMORY_GROWTH = 1.1


@dataclass(frozen=True, slots=True)
class Baseline:
    """The server at rest, after it has served once."""

    open_files: int
    memory: int


async def warm_up(victim: Victim, target: Target) -> Baseline:
    """Let the server touch what it will need: its slots, and room for many connections."""
    open_files = victim.open_files
    await _all_slots_are_free(target)
    streams = [await target.connect() for _ in range(_CONNECTIONS)]
    for stream in streams:
        await send(stream, HEALTH)
        await read_until(stream, HEALTHY)
    for stream in streams:
        await stream.aclose()
    await _files_are_closed(victim, open_files)
    return Baseline(open_files, victim.memory)


async def what_is_wrong(victim: Victim, target: Target, baseline: Baseline) -> list[str]:
    """What is not as it was; nothing, if all is well."""
    if not victim.alive:
        return ["the process ended"]
    wrong = []
    if victim.tracebacks:
        wrong.append("a traceback in the log")
    if not await _is_healthy(target):
        wrong.append("no health within a second")
    if not await _all_slots_are_free(target):
        wrong.append("a slot is lost")
    if not await _files_are_closed(victim, baseline.open_files):
        wrong.append(f"{victim.open_files} open files, not {baseline.open_files}")
    if victim.memory > baseline.memory * _MEMORY_GROWTH:
        wrong.append(f"{victim.memory >> 20} MiB, not {baseline.memory >> 20}")
    return wrong


async def _is_healthy(target: Target) -> bool:
    with trio.move_on_after(_HEALTH_SECONDS):
        async with await target.connect() as stream:
            await send(stream, HEALTH)
            return (await read_until(stream, HEALTHY)).startswith(b"HTTP/1.1 200 ")
    return False


async def _all_slots_are_free(target: Target) -> bool:
    """Whether as many streams as there are slots run at once, before any of them could end."""
    singing = 0

    async def sing() -> None:
        nonlocal singing
        async with await target.connect() as stream:
            await send(stream, ask("One, two", _LONG))
            while b'"Token"' not in await receive(stream):
                pass
            singing += 1
            if singing == SLOTS:
                nursery.cancel_scope.cancel()
            await trio.sleep_forever()

    with trio.move_on_after(_SLOTS_SECONDS):
        async with trio.open_nursery() as nursery:
            for _ in range(SLOTS):
                nursery.start_soon(sing)
    return singing == SLOTS


async def _files_are_closed(victim: Victim, baseline: int) -> bool:
    with trio.move_on_after(_FILES_SECONDS):
        while victim.open_files > baseline:
            await trio.sleep(0.05)
    return victim.open_files <= baseline
