"""The attacks, and what each is compared with. Does not know how they are judged."""

from dataclasses import dataclass

from tests.torture.canary import PROMPTS
from tests.torture.crowds import Attack, burst, coming, nobody, regulars, standing, together
from tests.torture.floods import (
    KEYS,
    PIPELINED,
    checks,
    garbage,
    malformed,
    pipeline,
    tiny_chunks,
    too_long,
    wrong_keys,
)
from tests.torture.leaving import (
    abort,
    half_close_in_the_middle,
    read_it_all,
    reset_in_the_middle,
    visit,
)
from tests.torture.overload import demand
from tests.torture.slow import eager_reader, silent, slow_body, slow_head, slow_reader
from tests.torture.victim import CAPACITY, SLOTS

_FREE_SLOTS = SLOTS - len(PROMPTS)
_ROOM = CAPACITY - len(PROMPTS)


@dataclass(frozen=True, slots=True)
class Row:
    """An attack, and what it is compared with."""

    name: str
    attack: Attack
    beside: Attack = nobody
    """Harmless clients that cause no more work, where an attack causes work by its nature."""


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
    Row("aborts", coming(300, abort), beside=regulars(2 * SLOTS, read_it_all)),
    Row("malformed heads", coming(100, malformed), beside=coming(100, visit)),
    Row("wrong keys", coming(30, wrong_keys), beside=coming(30, checks(KEYS))),
    Row("pipelining", coming(20, pipeline), beside=coming(20, checks(PIPELINED))),
    Row("tiny chunks", coming(2, tiny_chunks), beside=coming(2, checks(50))),
    Row("garbage bodies", coming(10, garbage), beside=coming(10, checks(20))),
    Row("prompts too long", coming(1, too_long)),
    Row(
        "overload",
        demand(10 * CAPACITY),
        beside=together(demand(_ROOM), burst(10 * CAPACITY - _ROOM, checks(2))),
    ),
)
