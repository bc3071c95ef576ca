"""What one step does, as values: nothing here acts."""

from dataclasses import dataclass

from server.engine.decoder import SavedKv
from server.engine.lookup import Draft


@dataclass(frozen=True, slots=True)
class SlotMove:
    """The first `length` tokens of slot `source` go to the free slot `destination`."""

    source: int
    destination: int
    length: int


@dataclass(frozen=True, slots=True)
class DecodeCall:
    """One token for each of these sequences; the one at index i lies in slot `first_slot` + i."""

    keys: tuple[int, ...]
    first_slot: int = 0


@dataclass(frozen=True, slots=True)
class SlotPrefix:
    """The first `length` tokens of another slot."""

    slot: int
    length: int


@dataclass(frozen=True, slots=True)
class SavedPrefix:
    """The first `length` tokens of a copy, which exists as long as the plan holds it."""

    saved: SavedKv
    length: int


Prefix = SlotPrefix | SavedPrefix


@dataclass(frozen=True, slots=True)
class PrefillCall:
    """Reads tokens `start` to `stop` of a prompt; the `last` such call gives its first token."""

    key: int
    slot: int
    start: int
    stop: int
    last: bool
    prefix: Prefix | None = None
    """Where the slot gets the tokens before `start` from, if it does not hold them yet."""

    @property
    def keys(self) -> tuple[int, ...]:
        return (self.key,)


@dataclass(frozen=True, slots=True)
class VerifyCall:
    """Reads a sequence's newest token and its draft. Gives one token, and one more for each token
    of the draft that the model would have chosen itself."""

    key: int
    slot: int
    draft: Draft

    @property
    def keys(self) -> tuple[int, ...]:
        return (self.key,)


Call = DecodeCall | VerifyCall | PrefillCall


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Slots are moved first, then the calls are made in order."""

    moves: tuple[SlotMove, ...] = ()
    calls: tuple[Call, ...] = ()
    begins: PrefillCall | None = None
    """A call that begins before the others and goes on beside them, also in later steps."""
