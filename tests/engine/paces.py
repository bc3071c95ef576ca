"""Paces in tokens, for tests in which no time passes."""

import itertools
import time
from collections.abc import Callable

from server.engine.costs import Costs, Rates
from server.engine.pace import Pace
from server.engine.pacer import Pacer
from server.engine.plan import Call
from server.engine.sequence import Sequence

A_TOKEN = Rates(0, 1, 0, 0)
TOKENS = Costs(decode=Rates(1, 0, 0, 0), prompt=A_TOKEN, prompt_beside=A_TOKEN)
"""A prompt costs its tokens, a decode call one."""


def tokens_a_step(alone: int, beside_streams: int) -> Pace:
    return Pace(TOKENS, stretch=1 + beside_streams, longest_call=alone)


def tokens_beside(alone: int, beside: int) -> Pace:
    """Prompts are read beside steps, `beside` tokens in a call."""
    return Pace(TOKENS, stretch=2, longest_call=alone, longest_call_beside=beside)


class SteadyPacer(Pacer):
    """Sets one pace, whatever calls take."""

    def __init__(self, steady: Pace, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(2, clock)
        self._steady = steady

    @property
    def pace(self) -> Pace:
        return self._steady

    def took(
        self, call: Call, sequences: list[Sequence], seconds: float, *, beside: bool = False
    ) -> None:
        pass


class ChangingPacer(SteadyPacer):
    """Sets one pace after the other, for a step each."""

    def __init__(self, *paces: Pace) -> None:
        super().__init__(paces[0])
        self._paces = itertools.cycle(paces)

    @property
    def pace(self) -> Pace:
        return next(self._paces)
