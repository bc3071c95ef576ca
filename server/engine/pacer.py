"""Derives the pace of prompts from measured calls. Knows calls and their times; decides nothing."""

import time
from collections.abc import Callable

from server.engine.costs import CostMeter
from server.engine.pace import Pace
from server.engine.plan import Call, DecodeCall, VerifyCall
from server.engine.sequence import Sequence

_EVERY = 16
"""Only one in so many decode calls is measured, since measuring takes longer than all else that a
step does beside the model. While a prompt is read in the steps, every call is: there it costs
little, and matters."""


class Pacer:
    """Measures nothing in advance: a guess holds until the first calls."""

    def __init__(
        self,
        stretch: float,
        clock: Callable[[], float] = time.perf_counter,
        meter: CostMeter | None = None,
    ) -> None:
        """`stretch` is that of `Pace`; `clock` gives seconds."""
        self.clock = clock
        self._stretch = stretch
        self._meter = meter or CostMeter()
        self._left_out = 0
        self._pace: Pace | None = None
        """None after a new measurement."""

    @property
    def pace(self) -> Pace:
        """The current pace. Fitted on demand, so not in steps that repeat the last plan."""
        if self._pace is None:
            self._pace = Pace(self._meter.costs(), self._stretch)
        return self._pace

    def took(
        self, call: Call, sequences: list[Sequence], seconds: float, *, beside: bool = False
    ) -> None:
        """Records the time of a call that has just run for its sequences. `beside` is whether it
        ran beside another one, and so with a part of the cores only."""
        if isinstance(call, VerifyCall):
            return  # not fitted
        if isinstance(call, DecodeCall):
            self._left_out += 1
            if beside or self._left_out < _EVERY:
                return
            self._left_out = 0
            self._meter.decoded(len(sequences), _past(sequences), seconds)
        else:
            self._left_out = _EVERY
            if call.prefix and not beside:
                return  # copying it took part of the time
            read = self._meter.read_beside if beside else self._meter.read
            read(call.stop - call.start, call.start, seconds)
        self._pace = None


def _past(sequences: list[Sequence]) -> int:
    return sum(sequence.past for sequence in sequences)
