"""Records what steps do and how long it takes, and reports it as facts.

Runs in the engine's thread, and costs a few reads of the clock and a value for each step. Does not
know what becomes of the facts.
"""

from collections.abc import Callable

from server.engine.decoder import Decoder
from server.engine.facts import Observe, PrefillDone, StepKind, StepTaken
from server.engine.plan import Call, PrefillCall, StepPlan
from server.engine.sequence import Sequence


class Recorder:
    """Call `step_begins`; for each call of the step `prompt_begins` before it, if it is a prompt's
    first, and `ran` after it, if it succeeded; then `step_ends`."""

    def __init__(self, decoder: Decoder, clock: Callable[[], float], observe: Observe) -> None:
        """`clock` gives seconds."""
        self._decoder = decoder
        self._clock = clock
        self._observe = observe
        self._step_began = 0.0
        self._runtime_before = 0.0
        self._tokens = 0
        self._gaps: dict[float, int] = {}

    def step_begins(self) -> None:
        self._tokens = 0
        self._gaps = {}
        self._runtime_before = self._decoder.runtime_seconds
        self._step_began = self._clock()

    def prompt_begins(self, sequence: Sequence) -> None:
        sequence.begun = self._clock()

    def ran(self, call: Call, sequences: list[Sequence], given: list[Sequence]) -> None:
        """To be called before the call's sequences get its tokens: one for each of `given`."""
        self._tokens += len(given)
        if not isinstance(call, PrefillCall):
            self._take_gaps(given)
        elif call.last:
            self._take_first_token(sequences[0])

    def step_ends(self, plan: StepPlan, *, beside: bool) -> None:
        """`beside` is whether a prompt was read beside the step's calls."""
        # In the calls, one that reads a prompt comes after all others.
        reads = beside or isinstance(plan.calls[-1], PrefillCall)
        fact = StepTaken(
            StepKind.PROMPT if reads else StepKind.DECODE,
            self._clock() - self._step_began,
            self._decoder.runtime_seconds - self._runtime_before,
            self._tokens,
            self._gaps,
        )
        self._observe(fact)

    def _take_gaps(self, given: list[Sequence]) -> None:
        """Each has waited since its own newest token, most of them equally long. Accepted from a
        draft, a sequence's further tokens come after a gap of 0."""
        now, gaps = self._clock(), self._gaps
        for sequence in given:
            gap = now - sequence.latest_token
            gaps[gap] = gaps.get(gap, 0) + 1
            sequence.latest_token = now

    def _take_first_token(self, sequence: Sequence) -> None:
        sequence.first_token = sequence.latest_token = now = self._clock()
        begun = now if sequence.begun is None else sequence.begun
        fact = PrefillDone(
            len(sequence.prompt), sequence.reused, begun - sequence.arrived, now - begun
        )
        self._observe(fact)
