"""The attacks, and how one is judged: canaries sing beside it, and the server recovers from it."""

from dataclasses import dataclass

import trio

from tests.torture.canary import PROMPTS, Canary, percentile, same_songs
from tests.torture.client import Target
from tests.torture.crowds import Attack, burst, coming, nobody, regulars, standing, together
from tests.torture.floods import PIPELINED, checks, garbage, malformed, pipeline, tiny_chunks
from tests.torture.leaving import (
    abort,
    half_close_in_the_middle,
    read_it_all,
    reset_in_the_middle,
    visit,
)
from tests.torture.overload import demand
from tests.torture.recovery import Baseline, what_is_wrong
from tests.torture.slow import eager_reader, silent, slow_body, slow_head, slow_reader
from tests.torture.tally import Tally
from tests.torture.victim import CAPACITY, SLOTS, Victim

LIMIT = 1.1
"""How much longer the canaries' 99th percentile of gaps may be."""
TRIES = 3
"""What an attack does to the canaries, it does each time; what the machine does is luck."""
_FREE_SLOTS = SLOTS - len(PROMPTS)
_ROOM = CAPACITY - len(PROMPTS)


@dataclass(frozen=True, slots=True)
class Row:
    """An attack, and what it is compared with."""

    name: str
    attack: Attack
    beside: Attack = nobody
    """Harmless clients that give no more to do, where an attack is work by its nature."""
    weight: float = 1.0
    """How long it takes, relative to the others."""


# What a client costs is the server's CPU time for many of its kind: a body of tiny chunks takes as
# much as 50 health checks, one of garbage as much as 20, a refused request as much as 2.
ROWS = (
    Row("silent connections", standing(1000, silent)),
    Row("slow heads", standing(1000, slow_head)),
    Row("slow bodies", standing(250, slow_body)),
    Row(
        "slow readers",
        standing(_FREE_SLOTS, slow_reader),
        beside=standing(_FREE_SLOTS, eager_reader),
    ),
    Row("resets", coming(100, reset_in_the_middle), beside=coming(100, visit)),
    Row("half-closes", coming(100, half_close_in_the_middle), beside=coming(100, visit)),
    Row("aborts", coming(300, abort), beside=regulars(2 * SLOTS, read_it_all), weight=3),
    Row("malformed heads", coming(100, malformed), beside=coming(100, visit)),
    Row("pipelining", coming(20, pipeline), beside=coming(20, checks(PIPELINED))),
    Row("tiny chunks", coming(2, tiny_chunks), beside=coming(2, checks(50))),
    Row("garbage bodies", coming(10, garbage), beside=coming(10, checks(20))),
    Row(
        "overload",
        demand(10 * CAPACITY),
        beside=together(demand(_ROOM), burst(10 * CAPACITY - _ROOM, checks(2))),
    ),
)


@dataclass(frozen=True, slots=True)
class Phase:
    """What was heard in one time of listening."""

    canaries: list[Canary]
    tally: Tally
    p99: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the scorecard."""

    name: str
    count: int
    """Clients that attacked."""
    beside_p99: float
    p99: float
    same_songs: bool
    wrong: list[str]
    slow: list[str]

    @property
    def ratio(self) -> float:
        return self.p99 / self.beside_p99

    @property
    def in_time(self) -> bool:
        return self.ratio <= LIMIT and not self.slow

    @property
    def passed(self) -> bool:
        return self.same_songs and self.in_time and not self.wrong


async def judge(row: Row, victim: Victim, baseline: Baseline, seconds: float) -> Verdict:
    """Listen for `seconds` beside what is harmless, and for `seconds` beside the attack."""
    target = Target(victim.port)
    for _ in range(TRIES):
        beside = await _listen(target, row.beside, seconds)
        attacked = await _listen(target, row.attack, seconds)
        verdict = Verdict(
            row.name,
            attacked.tally.count,
            beside.p99,
            attacked.p99,
            same_songs(beside.canaries, attacked.canaries),
            [
                *attacked.tally.wrong,
                *(f"harmless: {sentence}" for sentence in beside.tally.wrong),
                *await what_is_wrong(victim, target, baseline),
            ],
            sorted(attacked.tally.slow),
        )
        if verdict.wrong or verdict.in_time:
            break
    return verdict


async def _listen(target: Target, attack: Attack, seconds: float) -> Phase:
    canaries = [Canary(prompt) for prompt in PROMPTS]
    tally = Tally()
    async with trio.open_nursery() as attacking:
        async with trio.open_nursery() as singing:
            for canary in canaries:
                singing.start_soon(canary.sing, target)
                await canary.sings.wait()
            await attacking.start(attack, target, tally)
            start = trio.current_time()
            await trio.sleep(seconds)
            singing.cancel_scope.cancel()
        tally.over.set()
    gaps = [gap for canary in canaries for gap in canary.gaps_since(start)]
    return Phase(canaries, tally, percentile(gaps, 0.99))
