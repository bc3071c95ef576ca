"""What the engine needs of a model. `server.model` implements it for the CPU and for GPUs, and the
tests have a fake."""

from collections.abc import Sequence
from typing import Protocol

from server.model.candidates import Candidates
from server.model.tensor_types import Logits, Tokens

Rows = Logits | Sequence[Candidates]
"""A row for each token to be chosen: logits [n, V], or the candidates that a device gives."""


class SideRead(Protocol):
    """A prompt that is being read beside other calls."""

    @property
    def done(self) -> bool: ...

    def result(self) -> tuple[Rows, float]:
        """Waits for the end. Returns the last token's row, which stays valid, and the seconds that
        the call took. Raises what the call raised."""


class SavedKv(Protocol):
    """A copy of the keys and values of a slot's first tokens."""

    def load(self, slot: int, length: int) -> None:
        """Puts the first `length` tokens into a free slot."""


class Pages(Protocol):
    """Memory that slots take as they grow, and share where their tokens begin alike."""

    @property
    def page_tokens(self) -> int: ...

    @property
    def free_pages(self) -> int:
        """Pages that neither a slot nor a saved copy holds."""

    @property
    def unheld_pages(self) -> int:
        """Pages that no slot holds, including those that only saved copies hold."""


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
        """Prompt tokens that attention processes at a time, 4 or more: see `scheduler.cut`."""

    @property
    def token_bytes(self) -> int:
        """Bytes that the keys and values of one token take."""

    @property
    def pages(self) -> Pages | None:
        """Where slots take their memory from; None if each has room for a whole context."""

    @property
    def runtime_seconds(self) -> float:
        """Seconds that the caller of all calls so far spent inside the model's runtime."""

    def warm_up(self) -> None:
        """Prepares the first call, in the thread that will make all calls. Raises `StartError`."""

    def prefill(self, slot: int, past: int, tokens: Tokens, logits_to_keep: int = 1) -> Rows:
        """Reads `tokens` [n] after the slot's first `past` tokens, overwriting any later ones.
        Returns the rows of the last `logits_to_keep` tokens, or of all if that is 0. Raises
        `MemoryError` if no page is left, as do `decode`, `copy` and `SavedKv.load`."""

    def decode(
        self, tokens: list[int], pasts: list[int], first_slot: int = 0, *, again: bool = True
    ) -> Rows:
        """Reads one token for each of n neighbouring slots, after the first `pasts` tokens of each,
        overwriting any later ones. Returns a row for each. `again` says that the next call will
        decode the same slots, as far as is known, and may be prepared."""

    @property
    def reads_beside(self) -> bool:
        """Whether it can read prompts beside other calls."""

    def begin_prefill(self, slot: int, past: int, tokens: Tokens) -> SideRead:
        """Begins to do what `prefill` does, beside other calls, which have fewer cores meanwhile.
        One prompt at a time; until it is done, nothing else may be done to its slot."""

    def move(self, source: int, destination: int, length: int) -> None:
        """Moves the first `length` tokens of a slot to a free one, and frees the source."""

    def copy(self, source: int, destination: int, length: int) -> None:
        """Copies the first `length` tokens of a slot to a free one."""

    def save(self, slot: int, length: int) -> SavedKv:
        """Copies the first `length` tokens of a slot into memory of their own. Raises `OSError` or
        `MemoryError` if there is none."""

    def release(self, slot: int) -> None:
        """Frees a slot, whose tokens are no longer needed."""

    def rest(self) -> None:
        """Gives back memory: all slots are free, and may stay so."""

    def interrupt(self) -> None:
        """Ends the calls under way, if it still can, and each later one with `Interrupted`; safe
        from any thread."""
