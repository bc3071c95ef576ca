"""A decoder whose logits are a hash of the tokens in the slot: every scheduling bug shows as a
wrong token, and every misuse of a slot as `Misused`."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.errors import Interrupted
from server.model.tensor_types import Logits, Tokens

VOCABULARY = 32
CALLS_BESIDE = 3
"""Other calls that are made while a prompt is read beside them."""

History = tuple[int, ...]
OnCall = Callable[[int], object]


class Misused(BaseException):
    """The engine broke the decoder's contract. No `Exception`, so that no failed call hides it."""


class ModelBroke(Exception):
    """What a call raises that was told to fail."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call into the model: for each row, all tokens that its slot held once it had run."""

    kind: str
    histories: tuple[History, ...]


def logits_after(history: History) -> NDArray[np.float32]:
    """The next token's logits [VOCABULARY]; no two alike."""
    digest = hashlib.blake2b(repr(history).encode(), digest_size=8).digest()
    random = np.random.default_rng(int.from_bytes(digest))
    return random.normal(scale=4, size=VOCABULARY).astype(np.float32)


def greedy_tokens(prompt: History, count: int, eos: Set[int] = frozenset()) -> History:
    """The tokens that follow `prompt`, found without slots, chunks or batches."""
    tokens: History = ()
    while len(tokens) < count and not (tokens and tokens[-1] in eos):
        tokens += (int(logits_after(prompt + tokens).argmax()),)
    return tokens


@dataclass(slots=True)
class FakeSideRead:
    """`server.engine.decoder.SideRead`: takes as long as so many other calls."""

    decoder: "FakeDecoder"
    slot: int
    rows: Logits
    calls_left: int
    failure: Exception | None = None

    @property
    def done(self) -> bool:
        return self.calls_left == 0

    def result(self) -> tuple[Logits, float]:
        self.decoder.runtime_seconds += self.calls_left
        self.calls_left = 0
        if self.failure:
            raise self.failure
        self.decoder.read_whole(self.slot)
        return self.rows, 1.0


@dataclass(frozen=True, slots=True)
class FakeSaved:
    """`server.engine.decoder.SavedKv`: a list of tokens."""

    decoder: "FakeDecoder"
    tokens: list[int]

    def load(self, slot: int, length: int) -> None:
        if length > len(self.tokens):
            raise Misused(f"{len(self.tokens)} tokens were saved, not {length}")
        self.decoder.put(slot, self.tokens[:length])


class FakeDecoder:
    """`server.engine.decoder.Decoder` over lists. `held` is None where a slot is free.

    `on_call` gets each call's number first: it may raise, wait or act. Rows in `nan_rows` of a call
    get logits that are no numbers. `shares_decoded` allows that what decoding wrote is copied.
    """

    token_bytes = 10

    def __init__(
        self,
        slots: int = 4,
        context: int = 128,
        *,
        tile: int = 16,
        on_call: OnCall = lambda number: None,
        nan_rows: Mapping[int, Set[int]] | None = None,
        shares_decoded: bool = False,
        beside: bool = True,
        calls_beside: int = CALLS_BESIDE,
    ) -> None:
        self.slots = slots
        self.context = context
        self.tile = tile
        self.reads_beside = beside
        self.under_way: FakeSideRead | None = None
        """The last prompt that was read beside others."""
        self._calls_beside = calls_beside
        self.held: list[list[int] | None] = [None] * slots
        self.calls: list[Call] = []
        self.pages = None
        self.runtime_seconds = 0.0
        """A second for each call, and for those that one beside others is waited for."""
        self.moves = 0
        self.on_rest: Callable[[], None] = lambda: None
        self.reused = 0
        """Tokens that were copied instead of being read."""
        self._read = [0] * slots
        """How many of a slot's first tokens prompts wrote."""
        self._guessed = [0] * slots
        """How many of a slot's last tokens a draft or a failed call wrote: others may go there."""
        self._shares_decoded = shares_decoded
        self.interrupted = threading.Event()
        self.on_call = on_call
        self._nan_rows = nan_rows or {}
        self._returned: Logits = np.empty((0, VOCABULARY), np.float32)

    def warm_up(self) -> None:
        """Nothing to do."""

    def prefill(self, slot: int, past: int, tokens: Tokens, logits_to_keep: int = 1) -> Logits:
        new = [int(token) for token in tokens]
        if logits_to_keep > 1:
            return self._verify(slot, past, new, logits_to_keep)
        self._reads(slot, past, tokens)
        return self._run("prefill", [slot], [past], [new])

    def begin_prefill(self, slot: int, past: int, tokens: Tokens) -> FakeSideRead:
        if self.under_way and not self.under_way.done:
            raise Misused("two prompts beside others")
        self._reads(slot, past, tokens)
        seconds, returned = self.runtime_seconds, self._returned
        read = FakeSideRead(self, slot, np.empty((0, VOCABULARY), np.float32), self._calls_beside)
        try:
            read.rows = self._run("beside", [slot], [past], [tokens.tolist()])
        except Exception as error:  # told by `result`, as that of a thread
            read.failure = error
        self._guessed[slot] = len(tokens)  # until it is done
        self.runtime_seconds, self._returned = seconds, returned
        self.under_way = read
        return read

    def read_whole(self, slot: int) -> None:
        """What was read beside others counts from now on."""
        self._guessed[slot] = 0

    def _check_free(self, *slots: int) -> None:
        """Nothing is done to the slot that is read beside others."""
        if self.under_way and not self.under_way.done and self.under_way.slot in slots:
            raise Misused(f"slot {self.under_way.slot} is being read")

    def _reads(self, slot: int, past: int, tokens: Tokens) -> None:
        alone = past == 0 and len(tokens) == 1
        if len(tokens) % self.tile == 1 and not alone:
            raise Misused(f"{len(tokens)} tokens after {past} leave a tile of one")
        self._read[slot] = past + len(tokens)

    def _verify(self, slot: int, past: int, tokens: list[int], logits_to_keep: int) -> Logits:
        if logits_to_keep != len(tokens):
            raise Misused(f"{logits_to_keep} rows of {len(tokens)} tokens")
        return self._run("verify", [slot], [past], [tokens], rows=len(tokens))

    def decode(
        self, tokens: list[int], pasts: list[int], first_slot: int = 0, *, again: bool = True
    ) -> Logits:
        slots = list(range(first_slot, first_slot + len(tokens)))
        return self._run("decode", slots, pasts, [[token] for token in tokens])

    def move(self, source: int, destination: int, length: int) -> None:
        if self.held[destination] is not None:
            raise Misused(f"slot {destination} is not free")
        self._check_free(source, destination)
        self._forget_guesses(source, length)
        self.held[destination], self.held[source] = self.held[source], None
        self._read[destination] = self._read[source]
        self.moves += 1

    def copy(self, source: int, destination: int, length: int) -> None:
        self.put(destination, self._shared(source, length))

    def save(self, slot: int, length: int) -> FakeSaved:
        return FakeSaved(self, self._shared(slot, length))

    def put(self, slot: int, tokens: list[int]) -> None:
        """Lets a free slot begin with tokens from elsewhere."""
        if self.held[slot] is not None:
            raise Misused(f"slot {slot} is not free")
        self.held[slot] = tokens
        self._read[slot] = len(tokens)
        self.reused += len(tokens)

    def _shared(self, slot: int, length: int) -> list[int]:
        self._check_free(slot)
        held = self.held[slot] or []
        if length > (len(held) if self._shares_decoded else self._read[slot]):
            raise Misused(f"slot {slot} has no {length} tokens to share")
        return held[:length]

    def release(self, slot: int) -> None:
        self._check_free(slot)
        self.held[slot] = None
        self._guessed[slot] = 0

    def rest(self) -> None:
        if any(held is not None for held in self.held):
            raise Misused(f"not all slots are free: {self.held}")
        self.on_rest()

    def _forget_guesses(self, slot: int, length: int) -> None:
        """Of what the slot holds, the first `length` tokens are what it is about."""
        held = self.held[slot] or []
        if not len(held) - self._guessed[slot] <= length <= len(held):
            raise Misused(f"slot {slot} holds {held}, not {length} tokens")
        if self.held[slot] is not None:
            self.held[slot] = held[:length]
        self._guessed[slot] = 0

    def interrupt(self) -> None:
        self.interrupted.set()

    def _run(
        self, kind: str, slots: list[int], pasts: list[int], tokens: list[list[int]], rows: int = 1
    ) -> Logits:
        """Logits of the last `rows` tokens of each slot."""
        self._check_free(*slots)
        if self.under_way and self.under_way.calls_left:
            self.under_way.calls_left -= 1
        self._returned.fill(np.nan)  # what the last call gave out is no longer valid
        for slot, past in zip(slots, pasts, strict=True):
            self._forget_guesses(slot, past)
        histories = self._write(slots, tokens)
        for slot, new in zip(slots, tokens, strict=True):
            self._guessed[slot] = len(new)  # all of it, until the call has succeeded
        number = len(self.calls)
        self.calls.append(Call(kind, histories))
        self.runtime_seconds += 1
        self.on_call(number)
        if self.interrupted.is_set():
            raise Interrupted
        for slot in slots:
            self._guessed[slot] = rows - 1
        ends = [history[: len(history) - n] for history in histories for n in range(rows)[::-1]]
        self._returned = np.stack([logits_after(end) for end in ends])
        self._returned[list(self._nan_rows.get(number, ()))] = np.nan
        return self._returned

    def _write(self, slots: list[int], tokens: list[list[int]]) -> tuple[History, ...]:
        histories = []
        for slot, new in zip(slots, tokens, strict=True):
            held = self.held[slot] = (self.held[slot] or []) + new
            if len(held) > self.context:
                raise Misused(f"slot {slot} is full")
            histories.append(tuple(held))
        return tuple(histories)
