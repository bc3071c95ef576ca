"""How an attack is judged: by the canaries beside it, and by the server's recovery from it."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import trio

from tests.torture.canary import Canary, percentile, same_songs
from tests.torture.choir import Choir
from tests.torture.client import Target
from tests.torture.crowds import Attack
from tests.torture.recovery import Baseline, what_is_wrong
from tests.torture.rows import Row
from tests.torture.tally import Tally
from tests.torture.victim import Victim

LIMIT = 1.1
"""The largest ratio of the canaries' 99th percentile of gaps, with the attack and without."""
AGAIN = 3
"""A row that seems too slow is measured this many times as often before it fails: what an attack
does to the canaries, it does each time; what the machine does is chance."""
_SECONDS = 3.0
"""The length of a measurement: within it, slow clients meet their deadline."""
_LEAD_SECONDS = 1.5
"""From the canaries' first tokens to the measurement. Tokens get slower as a stream gets longer, so
the measurement begins at the same length whether an attack needs time to form up or not."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One measurement."""

    canaries: list[Canary]
    tally: Tally
    p99: float
    """Seconds."""
    load: float
    """Share of a core that the server's event loop took."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """The medians of all measurements beside one kind of client."""

    p99: float
    load: float

    @classmethod
    def of(cls, phases: Sequence[Phase]) -> "Gaps":
        return cls(median(phase.p99 for phase in phases), median(phase.load for phase in phases))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two measurements, one right after the other."""

    beside: Phase
    """With harmless clients."""
    attacked: Phase


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the scorecard."""

    name: str
    pairs: Sequence[Pair]
    wrong: Sequence[str]

    @property
    def count(self) -> int:
        """Clients that attacked."""
        return sum(pair.attacked.tally.count for pair in self.pairs)

    @property
    def same_songs(self) -> bool:
        return all(same_songs(pair.beside.canaries, pair.attacked.canaries) for pair in self.pairs)

    @property
    def beside(self) -> Gaps:
        return Gaps.of([pair.beside for pair in self.pairs])

    @property
    def attacked(self) -> Gaps:
        return Gaps.of([pair.attacked for pair in self.pairs])

    @property
    def ratio(self) -> float:
        return self.attacked.p99 / self.beside.p99

    @property
    def slow(self) -> list[str]:
        """What took too long in most of the phases; in a few it may be the machine's doing."""
        told = Counter(each for pair in self.pairs for each in pair.attacked.tally.slow)
        return [sentence for sentence, times in told.items() if 2 * times > len(self.pairs)]

    @property
    def in_time(self) -> bool:
        return self.ratio <= LIMIT and not self.slow

    @property
    def passed(self) -> bool:
        return self.same_songs and self.in_time and not self.wrong


async def judge(row: Row, victim: Victim, choir: Choir, baseline: Baseline, pairs: int) -> Verdict:
    """Measure canaries beside harmless clients and beside the attack, in turns."""
    heard: list[Pair] = []
    for most in (pairs, AGAIN * pairs):
        while len(heard) < most:
            heard.append(
                Pair(
                    await _listen(victim, choir, row.beside),
                    await _listen(victim, choir, row.attack),
                )
            )
        wrong = [*_wrong(heard), *await what_is_wrong(victim, Target(victim.port), baseline)]
        verdict = Verdict(row.name, heard, wrong)
        if verdict.wrong or verdict.in_time:
            break
    return verdict


def _wrong(heard: Sequence[Pair]) -> list[str]:
    said = {sentence for pair in heard for sentence in pair.attacked.tally.wrong}
    harmless = {sentence for pair in heard for sentence in pair.beside.tally.wrong}
    return sorted(said) + [f"harmless: {sentence}" for sentence in sorted(harmless)]


async def _listen(victim: Victim, choir: Choir, attack: Attack) -> Phase:
    tally = Tally()
    async with trio.open_nursery() as attacking:
        await choir.begin(victim.port)
        begun = time.monotonic()
        await attacking.start(attack, Target(victim.port), tally)
        await trio.sleep(max(0.0, begun + _LEAD_SECONDS - time.monotonic()))
        tally.heard.set()
        start, spent = time.monotonic(), victim.loop_seconds
        await trio.sleep(_SECONDS)
        load = (victim.loop_seconds - spent) / (time.monotonic() - start)
        end = time.monotonic()
        canaries = await choir.end()
        tally.over.set()
    gaps = [gap for canary in canaries for gap in canary.gaps_between(start, end)]
    return Phase(canaries, tally, percentile(gaps, 0.99), load)
