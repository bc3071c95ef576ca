"""Who runs when, and in which slot. Pure: no clock, no randomness, no arrays, no model.

The slots of decoding sequences are always 0 to n - 1, so that one call over neighbouring memory
serves them all, but for those that verify a draft, each in a call of its own: those between them
are then a call for each run of neighbours. Prompts lie above them. One prompt at a time is partly
read, in order of arrival, and in one call with the decoding ones where the decoder can do that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from server.engine.lookup import Draft
from server.engine.pace import LEAST_TOKENS, Pace
from server.engine.plan import (
    Call,
    DecodeCall,
    MixedCall,
    PrefillCall,
    Prefix,
    SavedPrefix,
    SlotMove,
    SlotPrefix,
    StepPlan,
    VerifyCall,
)
from server.engine.prefixes import Found

Find = Callable[[int, Sequence[PrefillCall]], Found | None]
"""`Prefixes.find`, which may forget kept sequences to make room."""


@dataclass(slots=True, eq=False)
class _SlotEntry:
    """A sequence that has a slot."""

    key: int
    prompt_tokens: int
    tokens: int
    """Tokens whose keys and values the slot holds once what is planned has run."""
    slot: int
    prefix: Prefix | None
    """Where its first tokens come from, until a call is planned that takes them from there."""


class Scheduler:
    """Call `submit` and `remove` at any time between plans, and for each step `plan`, or `again`
    where that gives one."""

    def __init__(self, slots: int, tile: int, find: Find, *, mixes: bool) -> None:
        """`tile` and `mixes` are the decoder's; `find` says what a prompt has in common with
        others."""
        self._slots = slots
        self._tile = tile
        self._find = find
        self._mixes = mixes
        self._waiting: dict[int, int] = {}
        """By key the tokens of each prompt that has no slot yet, in order of arrival."""
        self._reading: _SlotEntry | None = None
        self._decoding: list[_SlotEntry] = []
        self._some_left = False
        """Whether a slot may be free below one that is taken."""
        self._starved = False
        """Whether the first in the queue waits for pages, which only a sequence's end can free."""
        self._last: StepPlan | None = None
        """The last plan, where the next one can only be the same."""

    @property
    def busy(self) -> bool:
        """Whether a plan would hold anything."""
        return bool(self._waiting or self._reading or self._decoding)

    def submit(self, key: int, prompt_tokens: int) -> None:
        """Puts a sequence in the queue; `prompt_tokens` is 1 or more."""
        self._waiting[key] = prompt_tokens
        self._last = None

    def remove(self, key: int) -> int | None:
        """Forgets a sequence, wherever it is, and returns its slot, if it has one: the next plan
        counts it as free. Unknown keys are an error.
        """
        self._last = None
        self._starved = False
        if self._waiting.pop(key, None):
            return None
        place = self._place(key)
        if place is self._reading:
            self._reading = None
        else:
            self._decoding.remove(place)
        self._some_left = True
        return place.slot

    def accepted(self, key: int, tokens: int) -> None:
        """So many tokens of the draft that a decoding sequence had in the last plan are its own."""
        self._place(key).tokens += tokens

    def plan(self, pace: Pace, drafts: Mapping[int, Draft]) -> StepPlan:
        """The next step. What it holds counts as done: a call that fails ends in `remove`, and of
        the `drafts`, for keys of decoding sequences, only what is `accepted` later."""
        moves = self._close_gaps() if self._some_left else []
        self._some_left = False
        seconds = pace.allowance(
            len(self._decoding), self._coming(), sum(place.tokens for place in self._decoding)
        )
        decodes, verifies = list(self._decode(drafts)), list(self._verify(drafts))
        for place in self._decoding:
            place.tokens += 1
        mixes = self._mixes and bool(decodes) and not verifies  # one decode call, for all rows
        reads = self._prefill(pace, seconds, moves, mixes=mixes)
        calls: tuple[Call, ...] = (*decodes, *verifies, *reads)
        if mixes and reads:
            [decode], [read] = decodes, reads
            calls = (MixedCall(decode, read),)
        plan = StepPlan(tuple(moves), calls)
        special = moves or reads or drafts or self._coming()
        self._last = None if special else plan
        return plan

    def again(self) -> StepPlan | None:
        """What `plan` would give without drafts, where it is what it gave the last time: most steps
        are, and to plan them anew would cost them one part in a hundred. Else None."""
        if self._last:
            for place in self._decoding:
                place.tokens += 1
        return self._last

    def _decode(self, drafts: Mapping[int, Draft]) -> Iterator[DecodeCall]:
        """A call for each run of neighbours without drafts: one, where nobody has a draft."""
        for drafted, run in groupby(self._decoding, key=lambda place: place.key in drafts):
            if not drafted:
                first, *others = run
                yield DecodeCall((first.key, *(place.key for place in others)), first.slot)

    def _verify(self, drafts: Mapping[int, Draft]) -> Iterator[VerifyCall]:
        for place in self._decoding:
            if place.key in drafts:
                yield VerifyCall(place.key, place.slot, drafts[place.key])

    def _coming(self) -> int:
        """Prompts that there are slots for."""
        unread = len(self._waiting) + (self._reading is not None)
        return min(unread, self._slots - len(self._decoding))

    def _place(self, key: int) -> _SlotEntry:
        reading = [self._reading] if self._reading else []
        return next(place for place in chain(self._decoding, reading) if place.key == key)

    def _close_gaps(self) -> list[SlotMove]:
        """Brings the decoding sequences into the lowest slots, with as few moves as it takes."""
        rows = len(self._decoding)
        taken = {place.slot for place in self._decoding}
        free = iter([slot for slot in range(rows) if slot not in taken])
        moves = [self._move(place, next(free)) for place in self._decoding if place.slot >= rows]
        self._decoding.sort(key=lambda place: place.slot)
        return moves

    def _prefill(
        self, pace: Pace, seconds: float, moves: list[SlotMove], *, mixes: bool
    ) -> list[PrefillCall]:
        """Calls that read prompts for so many seconds: one at least, where there is a prompt. With
        `mixes`, that will be one call with the decoding sequences, and there is no other: the next
        prompt costs less in the next step, as a part of its one call, than in this one.

        A prompt's last call happens in the slot in which it will decode, so that a prompt begun
        after it always lies above."""
        costs = pace.costs
        calls: list[PrefillCall] = []
        while not calls or (not mixes and costs.prompt.prompt_seconds(LEAST_TOKENS, 0) <= seconds):
            place = self._reading or self._admit(calls)
            if place is None:
                break
            rates = costs.added if mixes else costs.prompt
            remaining = place.prompt_tokens - place.tokens
            least = LEAST_TOKENS
            if not calls:
                least = pace.least_tokens(rates, place.tokens, place.prompt_tokens)
            budget = max(rates.tokens_in(seconds, place.tokens, remaining), least)
            length = cut(remaining, budget, self._tile)
            seconds -= rates.prompt_seconds(length, place.tokens)
            start, stop = place.tokens, place.tokens + length
            last = stop == place.prompt_tokens
            if last and place.slot != len(self._decoding):
                moves.append(self._move(place, len(self._decoding)))
            calls.append(PrefillCall(place.key, place.slot, start, stop, last, place.prefix))
            place.tokens, place.prefix = stop, None
            if not last:
                break  # one call for each prompt: moves come before all calls, so none between two
            self._decoding.append(place)
            self._reading = None
        return calls

    def _admit(self, calls: Sequence[PrefillCall]) -> _SlotEntry | None:
        """Gives the first in the queue the slot above the others, if one is free; it begins with
        what it has in common with another sequence."""
        if self._starved or not self._waiting or len(self._decoding) == self._slots:
            return None
        key, prompt_tokens = next(iter(self._waiting.items()))
        found = self._find(key, calls)
        if found is None:
            self._starved = not calls  # else a prompt that this step reads may be what it waits for
            return None
        del self._waiting[key]
        slot, prefix = len(self._decoding), self._prefix(found)
        self._reading = _SlotEntry(key, prompt_tokens, found.length, slot, prefix)
        return self._reading

    def _prefix(self, found: Found) -> Prefix | None:
        """Where a sequence's first tokens lie when the calls of this step run."""
        if found.source is None:
            return None
        if isinstance(found.source, int):
            return SlotPrefix(self._place(found.source).slot, found.length)
        return SavedPrefix(found.source, found.length)

    @staticmethod
    def _move(place: _SlotEntry, destination: int) -> SlotMove:
        move = SlotMove(place.slot, destination, place.tokens)
        place.slot = destination
        return move


def cut(remaining: int, budget: int, tile: int) -> int:
    """How many of a prompt's remaining tokens to read with `budget`, `LEAST_TOKENS` or more.

    Attention works through a call's tokens in tiles, and a tile of one token takes another path and
    rounds in another way. So no call of several tokens has a last tile of one, and none leaves one
    token over: how a prompt is cut never shows in its logits. A prompt of one token is read alone.
    """
    if remaining == 1:
        return 1
    lengths = range(min(remaining, budget), 1, -1)
    return next(n for n in lengths if n % tile != 1 and remaining - n != 1)
