"""Whether the server has recovered, seen from outside: what must hold after every attack."""

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
_SHORT_PROMPT = "One, two"
_LONG_PROMPT = "the quick brown fox jumps over the lazy dog and " * 50
"""About as many tokens as the memory of a free slot keeps."""
_LONG_PROMPT_SECONDS = 30.0
_MEMORY_GROWTH = 16 * 2**20
"""Bytes; allocators make smaller differences on their own."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The server at rest, after it has used all that it may keep."""

    open_files: int
    memory: int


async def warm_up(victim: Victim, target: Target) -> Baseline:
    """Make the server touch all memory it will need, and fill what is bounded: more is growth."""
    open_files = victim.open_files
    await _sing_in_all_slots(target, _LONG_PROMPT, _LONG_PROMPT_SECONDS)
    streams = [await target.connect() for _ in range(_CONNECTIONS)]
    for stream in streams:
        await send(stream, HEALTH)
        await read_until(stream, HEALTHY)
    for stream in streams:
        await stream.aclose()
    await _files_are_closed(victim, open_files)
    return Baseline(open_files, victim.memory)


async def what_is_wrong(victim: Victim, target: Target, baseline: Baseline) -> list[str]:
    """List what is not as it was; empty if all is well."""
    if not victim.alive:
        return ["the process ended"]
    wrong = []
    if victim.tracebacks:
        wrong.append("a traceback in the log")
    if not await _is_healthy(target):
        wrong.append("no health within a second")
    if not await _sing_in_all_slots(target, _SHORT_PROMPT, _SLOTS_SECONDS):
        wrong.append("a slot is lost")
    if not await _files_are_closed(victim, baseline.open_files):
        wrong.append(f"{victim.open_files} open files, not {baseline.open_files}")
    if victim.memory > baseline.memory + _MEMORY_GROWTH:
        wrong.append(f"{victim.memory >> 20} MiB, not {baseline.memory >> 20}")
    return wrong


async def _is_healthy(target: Target) -> bool:
    with trio.move_on_after(_HEALTH_SECONDS):
        async with await target.connect() as stream:
            await send(stream, HEALTH)
            return (await read_until(stream, HEALTHY)).startswith(b"HTTP/1.1 200 ")
    return False


async def _sing_in_all_slots(target: Target, prompt: str, seconds: float) -> bool:
    """Whether as many streams as there are slots run at once, before any of them could end."""
    singing = 0

    async def sing(number: int) -> None:
        nonlocal singing
        async with await target.connect() as stream:
            await send(stream, ask(f"{number} {prompt}", _LONG))
            while b'"Token"' not in await receive(stream):
                pass
            singing += 1
            if singing == SLOTS:
                nursery.cancel_scope.cancel()
            await trio.sleep_forever()

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(SLOTS):
                nursery.start_soon(sing, number)
    return singing == SLOTS


async def _files_are_closed(victim: Victim, baseline: int) -> bool:
    with trio.move_on_after(_FILES_SECONDS):
        while victim.open_files > baseline:
            await trio.sleep(0.05)
    return victim.open_files <= baseline
