"""Kept prefixes are found as if all had been compared, and never take more than their room."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from server.engine.kept_prefixes import KeptPrefixes, common_length
from server.model.tensor_types import Tokens
from tests.engine.fake_decoder import FakeDecoder, FakeSaved, History

DECODER = FakeDecoder()
USED_AGAIN: list[History] = [(0, 1), (1, 0), (0,), (255, 255)]
"""The third is a use of the first, so that the second makes room for the last."""
histories = st.lists(st.sampled_from([0, 1, 255, 256, 70_000]), min_size=1, max_size=7).map(tuple)


def tokens_of(history: History) -> Tokens:
    return np.array(history, np.int64)


def common(one: History, other: History) -> int:
    """The definition."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


class Shelf:
    """`KeptPrefixes`, and beside it every history that was kept, the last used last."""

    def __init__(self, max_total_tokens: int) -> None:
        size = DECODER.token_bytes
        self.kept = KeptPrefixes(max_total_tokens * size + size - 1, size)
        self.most = max_total_tokens
        self.used: list[History] = []

    def add(self, history: History) -> None:
        def save(length: int) -> FakeSaved:
            saved.append(history[:length])
            return FakeSaved(DECODER, list(history[:length]))

        saved: list[History] = []
        self.kept.add(tokens_of(history), save)
        history = history[: self.most]
        known = [other for other in self.used if other[: len(history)] == history]
        assert saved == ([] if known or not history else [history])
        if saved:
            self.used = [other for other in self.used if history[: len(other)] != other]
            self.used.append(history)
        elif history:
            self.use(min(known))
        while sum(map(len, self.used)) > self.most:
            self.used.pop(0)

    def find(self, history: History) -> None:
        kept, length = self.kept.longest(tokens_of(history))
        assert length == max((common(history, other) for other in self.used), default=0)
        if kept is None:
            assert length == 0
            return
        found = tuple(kept.tokens.tolist())
        assert common(history, found) == length
        assert isinstance(kept.saved, FakeSaved)
        assert tuple(kept.saved.tokens) == found
        self.kept.used(kept)
        self.use(found)

    def use(self, history: History) -> None:
        self.used.remove(history)
        self.used.append(history)


@given(
    most=st.integers(0, 20),
    actions=st.lists(st.tuples(st.sampled_from(["add", "find"]), histories), max_size=30),
)
@example(most=4, actions=[*(("add", each) for each in USED_AGAIN), ("find", (0, 1))])
def test_the_longest_is_found_and_the_least_recently_used_goes(
    most: int, actions: list[tuple[str, History]]
) -> None:
    shelf = Shelf(most)
    for action, history in actions:
        if action == "add":
            shelf.add(history)
        else:
            shelf.find(history)


@given(one=histories, other=histories)
def test_common_length(one: History, other: History) -> None:
    assert common_length(tokens_of(one), tokens_of(other)) == common(one, other)


def test_a_sequence_that_does_not_fit_is_kept_as_far_as_it_does() -> None:
    kept = KeptPrefixes(30, token_bytes=10)
    kept.add(tokens_of((1, 2, 3, 4, 5)), lambda length: FakeSaved(DECODER, [1, 2, 3][:length]))
    _, length = kept.longest(tokens_of((1, 2, 3, 4, 5)))
    assert length == 3


def test_in_pages_each_sequence_takes_whole_ones() -> None:
    """Room for 11 tokens is room for two pages of four."""
    kept = KeptPrefixes(11 * DECODER.token_bytes, DECODER.token_bytes, page_tokens=4)
    saved = []

    def save(length: int) -> FakeSaved:
        saved.append(length)
        return FakeSaved(DECODER, [0] * length)

    kept.add(tokens_of((1, 2)), save)
    kept.add(tokens_of((2, 2)), save)
    assert kept.tokens == 8
    kept.add(tokens_of((3, 2)), save)
    assert kept.longest(tokens_of((1, 2)))[1] == 0
    kept.add(tokens_of(tuple(range(10))), save)
    assert (kept.tokens, saved) == (8, [2, 2, 2, 8])
    assert kept.drop_oldest()
    assert not kept.drop_oldest()
    assert kept.tokens == 0
