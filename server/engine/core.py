"""The engine's loop: plan, forward, sample, commit. Synchronous, and sole owner of its state.

Knows sequences and a decoder; does not know threads or clients.
"""

import contextlib
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass

from server.config import PrefixCacheConfig
from server.engine.decoder import Decoder, Rows, SideRead
from server.engine.events import EngineMessage, Failed, Progress
from server.engine.facts import Observe, unobserved
from server.engine.forward import forward, piece_of
from server.engine.pacer import Pacer
from server.engine.plan import Call, DecodeCall, PrefillCall, StepPlan, VerifyCall
from server.engine.prefixes import Prefixes
from server.engine.recorder import Recorder
from server.engine.sampling import sample, verify
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence
from server.errors import DeviceLost, Interrupted

log = logging.getLogger(__name__)

MODEL_FAILED = Failed(500, "The model failed on this request")

_LONGEST_BESIDE = 10.0
"""Seconds for a prompt's call beside others, which usually takes up to half a second."""

Deliver = Callable[[list[tuple[int, EngineMessage]]], None]
"""Takes the messages of one call, each with its sequence's key."""


@dataclass(frozen=True, slots=True)
class _Beside:
    """A prompt's call that goes on beside others."""

    call: PrefillCall
    sequence: Sequence
    read: SideRead
    begun: float


class EngineCore:
    """Runs sequences. Each one that was submitted and not cancelled gets one terminal event."""

    def __init__(
        self,
        decoder: Decoder,
        deliver: Deliver,
        pacer: Pacer,
        prefix_cache: PrefixCacheConfig,
        observe: Observe = unobserved,
    ) -> None:
        self._decoder = decoder
        self._deliver = deliver
        self._pacer = pacer
        self._recorder = Recorder(decoder, pacer.clock, observe)
        self._sequences: dict[int, Sequence] = {}
        self._drafting: dict[int, Sequence] = {}
        """The sequences that draft."""
        self._unreleased: list[tuple[Sequence, int]] = []
        """Sequences that ended since the last plan, and the slots that they still occupy."""
        self._beside: _Beside | None = None
        """The prompt that is being read beside other calls."""
        self._prefixes = Prefixes(decoder, self._sequences, prefix_cache)
        self._scheduler = Scheduler(
            decoder.slots, decoder.tile, self._prefixes.find, beside=decoder.reads_beside
        )

    @property
    def busy(self) -> bool:
        """Whether there is a step to take."""
        return self._scheduler.busy or bool(self._unreleased)

    def submit(self, sequence: Sequence) -> None:
        """Puts a sequence in the queue; its key must be new."""
        self._sequences[sequence.key] = sequence
        if sequence.drafter:
            self._drafting[sequence.key] = sequence
        self._scheduler.submit(sequence.key, len(sequence.prompt))

    def cancel(self, key: int) -> None:
        """Ends a sequence without an event. Ignores unknown keys: those sequences have ended."""
        self._drafting.pop(key, None)
        if sequence := self._sequences.pop(key, None):
            slot = self._scheduler.remove(key)
            if slot is not None:
                self._unreleased.append((sequence, slot))

    def step(self, listen: Callable[[], None]) -> None:
        """Takes one step. `listen`, which may submit and cancel, is called after each call into the
        model, except where a decode call follows: a plan's decode calls need all their rows.
        Raises `Interrupted` if the decoder was interrupted, and `DeviceLost`."""
        self._recorder.step_begins()
        self._release_slots()
        plan = self._plan()
        for move in plan.moves:
            self._decoder.move(move.source, move.destination, move.length)
        if plan.begins:
            self._begin_beside(plan.begins)
        for call, following in zip(plan.calls, (*plan.calls[1:], None), strict=False):
            if sequences := self._remaining(call):
                self._run(call, sequences, last=following is None)
                if not isinstance(following, DecodeCall):
                    listen()
        beside = self._beside
        if beside and (beside.read.done or not plan.calls or self._hangs(beside)):
            self._end_beside(beside)
        if beside or plan.calls:
            self._recorder.step_ends(plan, beside=beside is not None)

    def rest(self) -> None:
        """Lets the decoder give back memory; called after a while without work."""
        self._decoder.rest()

    def wait_for_beside(self) -> None:
        """Waits for a call that still runs beside others, after the last step: the thread's end is
        that of its calls."""
        if self._beside:
            with contextlib.suppress(Exception):
                self._beside.read.result()

    def _plan(self) -> StepPlan:
        drafts = {key: draft for key, each in self._drafting.items() if (draft := each.draft())}
        unchanged = None if drafts else self._scheduler.again()
        return unchanged or self._scheduler.plan(self._pacer.pace, drafts)

    def _release_slots(self) -> None:
        """Releases the slots of ended sequences, once what other prompts may reuse is kept."""
        for sequence, slot in self._unreleased:
            self._prefixes.keep(sequence, slot)
            self._decoder.release(slot)
        self._unreleased.clear()

    def _begin_beside(self, call: PrefillCall) -> None:
        """Begins to read a prompt beside other calls."""
        sequence = self._sequences[call.key]
        self._begin_prompt(sequence)
        try:
            piece = piece_of(self._decoder, call, sequence)
            read = self._decoder.begin_prefill(call.slot, call.start, piece)
        except Exception:
            self._scheduler.beside_ended()
            self._fail(call, [sequence])
        else:
            self._beside = _Beside(call, sequence, read, self._pacer.clock())

    def _hangs(self, beside: _Beside) -> bool:
        """Whether such a call seems to take for ever. Waiting for it lets those notice who watch
        over the thread."""
        return self._pacer.clock() - beside.begun > _LONGEST_BESIDE

    def _end_beside(self, beside: _Beside) -> None:
        """Waits for the end of such a call, and commits it unless its sequence was cancelled."""
        self._beside = None
        call, sequence = beside.call, beside.sequence
        abandoned = self._scheduler.beside_ended()
        if abandoned is not None:
            self._unreleased.append((sequence, abandoned))
        try:
            rows, seconds = beside.read.result()
        except Exception:
            sequence.read = 0  # as in `_outcome`, where one that was cancelled does not come
            self._fail(call, [] if abandoned is not None else [sequence])
            return
        sequence.read = call.stop
        self._pacer.took(call, [sequence], seconds, beside=True)
        if abandoned is None:
            self._take(call, [sequence], rows if call.last else rows[:0])

    def _begin_prompt(self, sequence: Sequence) -> None:
        if sequence.begun is None:
            self._recorder.prompt_begins(sequence)
            self._deliver([(sequence.key, Progress.BEGUN)])

    def _fail(self, call: Call, sequences: list[Sequence]) -> None:
        """Ends the sequences of a call that failed, in an `except` block. Raises the exception
        again if it ends the engine."""
        if isinstance(sys.exception(), Interrupted | DeviceLost):
            raise
        log.exception("a call into the model failed: %s", call)
        self._commit([(sequence, None) for sequence in sequences])

    def _run(self, call: Call, sequences: list[Sequence], *, last: bool) -> None:
        if isinstance(call, PrefillCall):
            self._begin_prompt(sequences[0])
        try:
            rows = self._forward(call, sequences, last=last)
        except Exception:
            self._fail(call, sequences)
            return
        self._take(call, sequences, rows)

    def _take(self, call: Call, sequences: list[Sequence], rows: Rows) -> None:
        """Chooses the tokens that follow from a call that has run."""
        if isinstance(call, VerifyCall):
            chosen = self._verify(call, sequences[0], rows)
        else:
            tokens = sample(rows, [sequence.sampler for sequence in sequences])
            chosen = list(zip(sequences, tokens, strict=False))
        given = [sequence for sequence, token in chosen if token is not None]
        self._recorder.ran(call, sequences, given)
        if isinstance(call, PrefillCall) and not call.last:
            self._deliver([(call.key, Progress.READ)])
        self._commit(chosen)

    def _forward(self, call: Call, sequences: list[Sequence], *, last: bool) -> Rows:
        start = self._pacer.clock()
        rows = forward(self._decoder, call, sequences, last=last)
        seconds = self._pacer.clock() - start
        self._pacer.took(call, sequences, seconds, beside=self._beside is not None)
        return rows

    def _remaining(self, call: Call) -> list[Sequence]:
        """The call's sequences that still run. Nothing is cancelled between a plan and its decode
        calls, so those have all their rows; a later call's sequence may be gone."""
        return [self._sequences[key] for key in call.keys if key in self._sequences]

    def _verify(
        self, call: VerifyCall, sequence: Sequence, rows: Rows
    ) -> list[tuple[Sequence, int | None]]:
        tokens = verify(rows, call.draft, sequence.sampler)
        accepted = len(tokens) - 1
        self._scheduler.accepted(call.key, accepted)
        if sequence.drafter:
            sequence.drafter.verified(len(call.draft), accepted)
        return [(sequence, token) for token in sequence.as_far_as_it_goes(tokens)]

    def _commit(self, chosen: list[tuple[Sequence, int | None]]) -> None:
        """Appends each token to its sequence, until that ends; None fails the sequence. Delivers
        the messages that follow."""
        messages: list[tuple[int, EngineMessage]] = []
        for sequence, token in chosen:
            if sequence.ended:  # by a token before this one
                continue
            messages += [(sequence.key, each) for each in _outcome(sequence, token)]
            if sequence.ended:
                self.cancel(sequence.key)
        if messages:
            self._deliver(messages)


def _outcome(sequence: Sequence, token: int | None) -> list[EngineMessage]:
    """The messages that the token causes. A fault in detokenising it ends only this sequence."""
    try:
        if token is not None:
            return [*sequence.accept(token)] or [Progress.SILENT]
    except Exception:
        log.exception("a token could not be turned into text")
    sequence.ended = True
    sequence.read = 0  # no prompt may reuse what a failing model wrote
    return [MODEL_FAILED]
