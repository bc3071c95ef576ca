"""The longest prefix of a prompt that a running or a kept sequence has already read.

Knows tokens and sequences; slots are the scheduler's.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from server.config import PrefixCacheConfig, PrefixReuse
from server.engine.decoder import Decoder, SavedKv
from server.engine.kept_prefixes import KeptPrefixes, common_length
from server.engine.page_budget import PageBudget
from server.engine.plan import PrefillCall
from server.engine.sequence import Sequence
from server.model.tensor_types import Tokens

log = logging.getLogger(__name__)

_ALWAYS_READ = 2
"""Tokens at a prompt's end that are read even if others hold them: the last one's logits are
needed, and a single token would take another path than in the whole prompt (`scheduler.cut`)."""
_SHORTEST = 2
"""Tokens worth copying. A prompt of one token was read on that other path, and is not reused."""
_WORTH_A_STEP = 32
"""How many more tokens to reuse are worth waiting a step for."""


@dataclass(frozen=True, slots=True)
class Found:
    """The prefix that a prompt can reuse."""

    source: int | SavedKv | None = None
    """The key of a running sequence, or the copy of an ended one."""
    length: int = 0
    """Tokens that can be taken from there; 0 without a source."""


class Prefixes:
    """Finds prefixes in the engine's running sequences, and in what it keeps of ended ones."""

    def __init__(
        self, decoder: Decoder, sequences: Mapping[int, Sequence], config: PrefixCacheConfig
    ) -> None:
        self._decoder = decoder
        self._sequences = sequences
        self._reuse = config.reuse
        pages = decoder.pages
        page_tokens = pages.page_tokens if pages else 1
        self._kept = KeptPrefixes(config.capacity, decoder.token_bytes, page_tokens)
        self._page_budget = PageBudget(pages, sequences) if pages else None

    def find(self, key: int, reading: Collection[PrefillCall]) -> Found | None:
        """The longest reusable prefix for a prompt that would be read after the calls `reading`,
        already planned in this step.

        None if the prompt has to wait: either for a prompt that is being read and has much more in
        common with it, which can be reused a step later, or for pages. Kept sequences are dropped
        if that makes room.
        """
        found = self._best(key, reading)
        if self._page_budget is None or found is None:
            return found
        beginning = {call.key for call in reading}
        while found and not self._page_budget.fits(key, found.length, beginning):
            _, shared = self._longest_running(self._reusable(key))
            helps = self._page_budget.fits(key, shared, beginning, without_copies=True)
            found = None  # also releases a copy that is about to be dropped
            if helps and self._kept.drop_oldest():
                found = self._best(key, reading)
        return found

    def _best(self, key: int, reading: Iterable[PrefillCall]) -> Found | None:
        """Only tokens that were read before this step can be reused, since a call of this step may
        fail."""
        if self._reuse is PrefixReuse.OFF:
            return Found()
        prompt = self._reusable(key)
        kept, longest = self._kept.longest(prompt)
        source: int | SavedKv | None = kept.saved if kept else None
        running, length = self._longest_running(prompt)
        if length > longest:
            source, longest = running, length
        for call in reading:
            coming = self._sequences[call.key].prompt[: call.stop]
            if common_length(prompt, coming) >= longest + _WORTH_A_STEP:
                return None
        if longest < _SHORTEST:
            return Found()
        if kept and source is kept.saved:
            self._kept.used(kept)
        return Found(source, longest)

    def _reusable(self, key: int) -> Tokens:
        """The tokens of a prompt that it may take from others."""
        return self._sequences[key].prompt[:-_ALWAYS_READ]

    def _longest_running(self, prompt: Tokens) -> tuple[int | None, int]:
        """The running sequence with the longest prefix in common, and that prefix's length."""
        best, longest = None, 0
        for other in self._sequences.values():
            length = common_length(prompt, self._held(other))
            if length > longest:
                best, longest = other.key, length
        return best, longest

    def keep(self, sequence: Sequence, slot: int) -> None:
        """Saves a copy of what an ended sequence left in its slot."""
        held = self._held(sequence)
        if self._reuse is PrefixReuse.OFF or len(held) < _SHORTEST:
            return
        try:
            self._kept.add(held, partial(self._decoder.save, slot))
        except (OSError, MemoryError) as error:
            log.warning("no memory to keep a prefix of %d tokens: %s", len(held), error)

    def _held(self, sequence: Sequence) -> Tokens:
        """The tokens whose keys and values other sequences may take from this one's slot."""
        if self._reuse is PrefixReuse.ALL and sequence.read == len(sequence.prompt):
            return np.append(sequence.prompt, np.array(sequence.generated[:-1], np.int64))
        return sequence.prompt[: sequence.read]
