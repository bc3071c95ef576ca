"""Many times more requests at once than the server takes, and how soon each one learns of it."""

import os
import re

import trio

from tests.torture.canary import percentile
from tests.torture.client import LAST_CHUNK, Target, ask, read_until
from tests.torture.crowds import Attack
from tests.torture.tally import Tally
from tests.torture.victim import PHASE_SECONDS

_P50_SECONDS = 0.05
_P99_SECONDS = 0.3
_REQUEST = ask("Tell me", 4)
_WHOLE = b"}}}\n"
"""The end of an answer that is a single line rather than a stream."""
_ERROR = re.compile(rb'"error":\{"code":(\d+)')


def demand(count: int) -> Attack:
    """`count` requests in one burst: those that find no room are refused at once, in band."""

    async def attack(target: Target, tally: Tally, *, task_status: trio.TaskStatus[None]) -> None:
        opened = trio.current_time()
        streams = [await target.connect() for _ in range(count)]
        refused_after: list[float] = []
        task_status.started()
        await tally.heard.wait()
        async with trio.open_nursery() as nursery:
            for stream in streams:
                start = trio.current_time()
                # Not through Trio, whose work here would take CPU time from the server.
                os.write(stream.socket.fileno(), _REQUEST)
                nursery.start_soon(_hear, stream, opened, start, tally, refused_after)
        if refused_after:
            p50, p99 = (percentile(refused_after, share) for share in (0.5, 0.99))
            tally.check_time(p50 <= _P50_SECONDS, f"refused after {p50 * 1000:.0f} ms (p50)")
            tally.check_time(p99 <= _P99_SECONDS, f"refused after {p99 * 1000:.0f} ms (p99)")

    return attack


async def _hear(
    stream: trio.SocketStream,
    opened: float,
    start: float,
    tally: Tally,
    refused_after: list[float],
) -> None:
    tally.count += 1
    async with stream:
        answer = await read_until(stream, LAST_CHUNK, _WHOLE)
    whole = answer.endswith((LAST_CHUNK, _WHOLE))
    if start - opened < PHASE_SECONDS:
        tally.check(whole, "an answer has no end")
    else:  # an attacker that got no CPU time for so long was idle, as far as the server knows
        tally.check_time(whole, "a client asked too late")
    if error := _ERROR.search(answer):
        tally.check(error[1] in (b"503", b"504"), f"a request failed with {error[1]!r}")
        refused_after.append(trio.current_time() - start)
