"""Whatever is done to slots and pages, they hold what lists of tokens would, and none is lost."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from server.model.candidates import Candidates
from server.model.gpu.paged_kv import SavedPages
from tests.engine.fake_decoder import VOCABULARY, logits_after
from tests.model.gpu.fake_paged_device import PagedDevice

SLOTS = 5


@dataclass
class Lists:
    """What slots and saved copies hold, as lists of tokens."""

    slots: list[list[int]] = field(default_factory=lambda: [[] for _ in range(SLOTS)])
    saved: list[tuple[SavedPages, list[int]]] = field(default_factory=list)


class Visitor:
    """Does the same to a decoder and to lists, and compares."""

    def __init__(self, seed: int) -> None:
        # So many pages that two saved copies of all have room, too.
        self.device = PagedDevice(pages=64, always_ahead=True)
        self.decoder = self.device.decoder
        self.lists = Lists()
        self.random = np.random.default_rng(seed)

    def act(self) -> None:
        used, free = self._slots(used=True), self._slots(used=False)
        acts = [self._decode, self._release, self._save, self._read, self._drop]
        if free:
            acts += [self._copy, self._move, self._load, self._read_anew, self._read_anew]
        self.random.choice(np.array(acts, object))(used, free)
        assert self._held_pages() == self.device.kv.spare - self.device.kv.free_pages

    def leave(self) -> None:
        for slot in range(SLOTS):
            self.decoder.release(slot)
        self.lists.saved.clear()
        assert self.device.kv.free_pages == self.device.kv.spare

    def _slots(self, *, used: bool) -> list[int]:
        return [slot for slot, held in enumerate(self.lists.slots) if bool(held) == used]

    def _held_pages(self) -> int:
        tables = [*self.device.kv.tables, *(saved.table for saved, _ in self.lists.saved)]
        return len({page for table in tables for page in table})

    def _one(self, slots: list[int]) -> int | None:
        return int(self.random.choice(slots)) if slots else None

    def _length(self, slot: int) -> int:
        return int(self.random.integers(1, len(self.lists.slots[slot]) + 1))

    def _read_anew(self, used: list[int], free: list[int]) -> None:
        self._fill(free[0])

    def _read(self, used: list[int], free: list[int]) -> None:
        """After some of what the slot holds: others that share the rest keep it."""
        slot = self._one(used)
        if slot is not None:
            del self.lists.slots[slot][self._length(slot) - 1 :]
            self._fill(slot)

    def _fill(self, slot: int) -> None:
        held = self.lists.slots[slot]
        count = int(self.random.integers(1, self.decoder.context - len(held) + 1))
        tokens = self.random.integers(0, VOCABULARY, count)
        rows = self.decoder.prefill(slot, len(held), tokens)
        held += tokens.tolist()
        self._compare(rows[0], held)

    def _decode(self, used: list[int], free: list[int]) -> None:
        """Some tokens, which were foreseen or not."""
        for _ in range(self.random.integers(1, 6)):
            slots = [slot for slot in used if len(self.lists.slots[slot]) < self.decoder.context]
            if not slots:
                return
            run = [slots[0]]
            while run[-1] + 1 in slots:
                run.append(run[-1] + 1)
            held = [self.lists.slots[slot] for slot in run]
            tokens = [int(logits_after(tuple(each)).argmax()) for each in held]
            if self.random.random() < 0.2:
                tokens[-1] = int(self.random.integers(VOCABULARY))
            rows = self.decoder.decode(tokens, [len(each) for each in held], run[0])
            for token, row, each in zip(tokens, rows, held, strict=True):
                each.append(token)
                self._compare(row, each)

    def _release(self, used: list[int], free: list[int]) -> None:
        slot = self._one(used)
        if slot is not None:
            self.decoder.release(slot)
            self.lists.slots[slot] = []

    def _copy(self, used: list[int], free: list[int]) -> None:
        source = self._one(used)
        if source is not None:
            length = self._length(source)
            self.decoder.copy(source, free[0], length)
            self.lists.slots[free[0]] = self.lists.slots[source][:length]

    def _move(self, used: list[int], free: list[int]) -> None:
        source = self._one(used)
        if source is not None:
            held = self.lists.slots[source]
            self.decoder.move(source, free[0], len(held))
            self.lists.slots[free[0]], self.lists.slots[source] = held, []

    def _save(self, used: list[int], free: list[int]) -> None:
        slot = self._one(used)
        if slot is not None and len(self.lists.saved) < 2:
            length = self._length(slot)
            saved = self.device.kv.save(slot, length)
            self.lists.saved.append((saved, self.lists.slots[slot][:length]))

    def _load(self, used: list[int], free: list[int]) -> None:
        if self.lists.saved:
            saved, tokens = self.lists.saved[0]
            saved.load(free[0], len(tokens))
            self.lists.slots[free[0]] = list(tokens)

    def _drop(self, used: list[int], free: list[int]) -> None:
        self.lists.saved = self.lists.saved[1:]

    def _compare(self, row: Candidates | NDArray[np.float32], held: list[int]) -> None:
        """The whole row now and then only, since it ends what was made ahead."""
        assert isinstance(row, Candidates)
        expected = logits_after(tuple(held))
        np.testing.assert_array_equal(row.logits, np.sort(expected)[::-1][: len(row.logits)])
        if self.random.random() < 0.2:
            np.testing.assert_array_equal(row.whole(), expected)


@pytest.mark.parametrize("seed", range(4))
def test_after_200_random_acts_slots_hold_what_lists_hold_and_no_page_is_lost(seed: int) -> None:
    visitor = Visitor(seed)
    for _ in range(200):
        visitor.act()
    visitor.leave()
