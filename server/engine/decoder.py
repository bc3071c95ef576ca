"""What the engine needs of a model: `server.model` has it for the CPU and for GPUs, and so has the
tests' fake."""

from collections.abc import Sequence
from typing import Protocol

from server.model.candidates import Candidates
from server.model.tensor_types import Logits, Tokens

Rows = Logits | Sequence[Candidates]
"""A row for each token that may be chosen: logits [n, V], or what a device tells of them."""


class Mixed(Protocol):
    """Calls that are both `decode` of the first n slots and `prefill` of one above them, and read
    the weights once."""

    def __call__(
        self,
        tokens: list[int],
        pasts: list[int],
        slot: int,
        past: int,
        prompt: Tokens,
        *,
        last: bool,
    ) -> Rows:
        """`tokens` and `pasts` [n] are those of `decode`, the others of `prefill`. With `last`, the
        prompt's last token gets a row, too, behind those that decode."""


class SavedKv(Protocol):
    """A copy of the keys and values of a slot's first tokens."""

    def load(self, slot: int, length: int) -> None:
        """Puts the first `length` tokens into a free slot."""


class Pages(Protocol):
    """Memory that slots take as they grow, and share where they begin alike."""

    @property
    def page_tokens(self) -> int: ...

    @property
    def free_pages(self) -> int:
        """Pages that no slot holds, and no copy of one."""

    @property
    def unheld_pages(self) -> int:
        """Pages that no slot holds: free, once no copy holds them either."""


class Decoder(Protocol):
    """A decoder-only model with memory for `slots` sequences of `context` tokens.

    Slots are numbered from 0. Returned rows may be overwritten by the next call.
    """

    @property
    def slots(self) -> int: ...

    @property
    def context(self) -> int: ...

    @property
    def tile(self) -> int:
        """Tokens of a prompt that attention takes at a time, 4 or more: see `scheduler.cut`."""

    @property
    def token_bytes(self) -> int:
        """Bytes that the keys and values of one token take."""

    @property
    def pages(self) -> Pages | None:
        """What slots take their memory from; None: each has room for a whole context."""

    @property
    def runtime_seconds(self) -> float:
        """Seconds that all calls so far spent inside what runs the model."""

    def warm_up(self) -> None:
        """Whatever else must happen before the first call, in the thread that will make all calls.
        Raises `StartError`."""

    def prefill(self, slot: int, past: int, tokens: Tokens, logits_to_keep: int = 1) -> Rows:
        """Reads `tokens` [n] after the slot's first `past` ones, and over what else it holds; the
        rows of the last `logits_to_keep` of them, of all where that is 0. Raises `MemoryError` for
        want of a page, as do `decode`, `copy` and a copy's `load`."""

    def decode(
        self, tokens: list[int], pasts: list[int], first_slot: int = 0, *, again: bool = True
    ) -> Rows:
        """One token for each of n neighbouring slots, after the `pasts` first ones of each, and
        over what else it holds; a row for each. `again`: as far as is known, the next call will be
        such a one over the same slots, and may be prepared."""

    @property
    def mixed(self) -> Mixed | None:
        """None where it has no such calls."""

    def move(self, source: int, destination: int, length: int) -> None:
        """Takes the first `length` tokens of a slot to a free one, and frees the source."""

    def copy(self, source: int, destination: int, length: int) -> None:
        """Gives the first `length` tokens of a slot to a free one, too."""

    def save(self, slot: int, length: int) -> SavedKv:
        """Copies the first `length` tokens of a slot into memory of their own. Raises `OSError` or
        `MemoryError` where there is none."""

    def release(self, slot: int) -> None:
        """What the slot holds is no longer needed."""

    def rest(self) -> None:
        """All slots are free, and it may last."""

    def interrupt(self) -> None:
        """Ends the call under way, and each later one, with `Interrupted`; safe from any thread."""
