"""Who runs when, and in which slot. Pure: no clock, no randomness, no arrays, no model.

The slots of decoding sequences are always 0 to n - 1, so that one call over neighbouring memory
serves them all. A sequence that verifies a draft gets its own call; the remaining sequences are
decoded in one call per run of adjacent slots. Prompts lie above them and are read in order of
arrival. Only one is partly read at a time, in the steps of the decoding ones or beside them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from server.engine.lookup import Draft
from server.engine.pace import MIN_TOKENS, Pace
from server.engine.plan import (
    Call,
    DecodeCall,
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
"""`Prefixes.find`, which may drop kept sequences to make room."""


@dataclass(slots=True, eq=False)
class _SlotEntry:
    """A sequence that has a slot."""

    key: int
    prompt_tokens: int
    tokens: int
    """Tokens whose keys and values the slot holds once the planned calls have run."""
    slot: int
    prefix: Prefix | None
    """Where its first tokens are copied from; None once a call that does so is planned."""


class Scheduler:
    """Call `submit` and `remove` at any time between plans. For each step call
    `again`, unless a sequence has a draft, and `plan` if that returns None. Call `beside_ended`
    when a call that a plan let begin is done."""

    def __init__(self, slots: int, tile: int, find: Find, *, beside: bool) -> None:
        """`tile` is the decoder's, `beside` is whether it can read prompts beside other calls;
        `find` looks for a prefix that a prompt can reuse."""
        self._slots = slots
        self._tile = tile
        self._find = find
        self._can_read_beside = beside
        self._waiting: dict[int, int] = {}
        """The length of each prompt that has no slot yet, by key, in order of arrival."""
        self._reading: _SlotEntry | None = None
        self._beside: PrefillCall | None = None
        """The call that reads `_reading` beside others; it goes on if that is removed."""
        self._decoding: list[_SlotEntry] = []
        self._may_have_gaps = False
        """Whether a slot may be free below one that is taken."""
        self._starved = False
        """Whether the first in the queue waits for pages, which only a sequence's end can free."""
        self._last: StepPlan | None = None
        """The last plan, if the next one without drafts is bound to be the same."""

    @property
    def busy(self) -> bool:
        """Whether there is something to do."""
        return bool(self._waiting or self._reading or self._beside or self._decoding)

    def submit(self, key: int, prompt_tokens: int) -> None:
        """Puts a sequence in the queue; `prompt_tokens` is 1 or more."""
        self._waiting[key] = prompt_tokens
        self._last = None

    def remove(self, key: int) -> int | None:
        """Removes a sequence, wherever it is, and returns its slot, if it has one, which the next
        plan counts as free: `beside_ended` does later if it is still being read beside others. An
        unknown key is an error.
        """
        self._last = None
        self._starved = False
        if self._waiting.pop(key, None):
            return None
        entry = self._entry(key)
        if entry is self._reading:
            self._reading = None
            if self._beside:
                return None
        else:
            self._decoding.remove(entry)
        self._may_have_gaps = True
        return entry.slot

    def accepted(self, key: int, tokens: int) -> None:
        """Adds accepted tokens of the last plan's draft to a decoding sequence."""
        self._entry(key).tokens += tokens

    def beside_ended(self) -> int | None:
        """Ends the call that a plan let begin. Returns its slot if its sequence was removed."""
        call, self._beside, self._last = self._beside, None, None
        if call and self._reading is None:
            return call.slot
        if call and call.last and self._reading:
            self._decoding.append(self._reading)
            self._reading = None
            self._may_have_gaps = True  # streams may have ended meanwhile
        return None

    def plan(self, pace: Pace, drafts: Mapping[int, Draft]) -> StepPlan:
        """Plans the next step, whose calls count as done: call `remove` for sequences whose call
        fails. `drafts` are by key of a decoding sequence; only what is `accepted` later counts."""
        moves = self._close_gaps() if self._may_have_gaps else []
        self._may_have_gaps = False
        decodes: list[Call] = [*self._decode(drafts), *self._verify(drafts)]
        past = sum(entry.tokens for entry in self._decoding)
        for entry in self._decoding:
            entry.tokens += 1
        begins, reads = None, list[PrefillCall]()
        waits = self._beside is not None
        if not waits and decodes and self._can_read_beside and pace.reads_beside:
            begins = self._begin_beside(pace)
        elif not waits:
            seconds = pace.allowance(len(self._decoding), self._coming(), past)
            reads = self._prefill(pace, seconds, moves)
        plan = StepPlan(tuple(moves), (*decodes, *reads), begins)
        special = moves or reads or begins or drafts or (self._coming() and not waits)
        self._last = None if special else plan
        return plan

    def again(self) -> StepPlan | None:
        """The last plan, if `plan` would return the same without drafts; else None. Most steps
        repeat the last one, and planning them anew would cost one part in a hundred of them."""
        if self._last:
            for entry in self._decoding:
                entry.tokens += 1
        return self._last

    def _decode(self, drafts: Mapping[int, Draft]) -> Iterator[DecodeCall]:
        """One call per run of adjacent slots without drafts: a single one if there is none."""
        for drafted, run in groupby(self._decoding, key=lambda entry: entry.key in drafts):
            if not drafted:
                first, *others = run
                yield DecodeCall((first.key, *(entry.key for entry in others)), first.slot)

    def _verify(self, drafts: Mapping[int, Draft]) -> Iterator[VerifyCall]:
        for entry in self._decoding:
            if entry.key in drafts:
                yield VerifyCall(entry.key, entry.slot, drafts[entry.key])

    def _coming(self) -> int:
        """How many prompts that do not decode yet there are slots for."""
        unread = len(self._waiting) + (self._reading is not None)
        return min(unread, self._slots - len(self._decoding))

    def _entry(self, key: int) -> _SlotEntry:
        reading = [self._reading] if self._reading else []
        return next(entry for entry in chain(self._decoding, reading) if entry.key == key)

    def _close_gaps(self) -> list[SlotMove]:
        """Moves the decoding sequences into the lowest slots, in as few moves as possible."""
        rows = len(self._decoding)
        taken = {entry.slot for entry in self._decoding}
        free = iter([slot for slot in range(rows) if slot not in taken])
        moves = [self._move(entry, next(free)) for entry in self._decoding if entry.slot >= rows]
        self._decoding.sort(key=lambda entry: entry.slot)
        return moves

    def _begin_beside(self, pace: Pace) -> PrefillCall | None:
        """Plans the next call that reads a prompt beside others, if a prompt can be read."""
        entry = self._reading or self._admit([])
        if entry is None:
            return None
        remaining = entry.prompt_tokens - entry.tokens
        length = cut(remaining, pace.tokens_beside(entry.tokens, remaining), self._tile)
        self._beside = self._read(entry, length)
        return self._beside

    def _read(self, entry: _SlotEntry, length: int) -> PrefillCall:
        """Plans a call that reads the next `length` tokens of a prompt."""
        start, stop = entry.tokens, entry.tokens + length
        last, prefix = stop == entry.prompt_tokens, entry.prefix
        entry.tokens, entry.prefix = stop, None
        return PrefillCall(entry.key, entry.slot, start, stop, last, prefix)

    def _prefill(self, pace: Pace, seconds: float, moves: list[SlotMove]) -> list[PrefillCall]:
        """Plans calls that read prompts for `seconds`: at least one, if a prompt can be read.

        A prompt's last call runs in the slot in which it will decode, so that a prompt begun after
        it always lies above."""
        rates = pace.costs.prompt
        calls: list[PrefillCall] = []
        while not calls or rates.prompt_seconds(MIN_TOKENS, 0) <= seconds:
            entry = self._reading or self._admit(calls)
            if entry is None:
                break
            remaining = entry.prompt_tokens - entry.tokens
            least = MIN_TOKENS
            if not calls:
                least = pace.min_tokens(entry.tokens, entry.prompt_tokens)
            budget = max(rates.tokens_in(seconds, entry.tokens, remaining), least)
            length = cut(remaining, budget, self._tile)
            seconds -= rates.prompt_seconds(length, entry.tokens)
            if length == remaining and entry.slot != len(self._decoding):
                moves.append(self._move(entry, len(self._decoding)))
            calls.append(self._read(entry, length))
            if not calls[-1].last:
                break  # one call per prompt: moves come before all calls, so none between two
            self._decoding.append(entry)
            self._reading = None
        return calls

    def _admit(self, calls: Sequence[PrefillCall]) -> _SlotEntry | None:
        """Gives the first in the queue the slot above the others, if one is free and `find` does
        not make it wait. It begins with the prefix that was found."""
        if self._starved or not self._waiting or len(self._decoding) == self._slots:
            return None
        key, prompt_tokens = next(iter(self._waiting.items()))
        found = self._find(key, calls)
        if found is None:
            self._starved = not calls  # with calls, it may wait for a prompt that this step reads
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
            return SlotPrefix(self._entry(found.source).slot, found.length)
        return SavedPrefix(found.source, found.length)

    @staticmethod
    def _move(entry: _SlotEntry, destination: int) -> SlotMove:
        move = SlotMove(entry.slot, destination, entry.tokens)
        entry.slot = destination
        return move


def cut(remaining: int, budget: int, tile: int) -> int:
    """How many of a prompt's remaining tokens to read with `budget`, `MIN_TOKENS` or more.

    Attention works through a call's tokens in tiles, and a tile of one token takes another path,
    which rounds differently. So no call of several tokens has a last tile of one, and none leaves
    one token over: how a prompt is cut never shows in its logits. A prompt of one token is read
    alone.
    """
    if remaining == 1:
        return 1
    lengths = range(min(remaining, budget), 1, -1)
    return next(n for n in lengths if n % tile != 1 and remaining - n != 1)
