"""Drafts grow where they are right, and all but cease where they are wrong."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.engine.drafter import FIRST_LENGTH, LONGEST_PAUSE, LookupDrafter

PERIOD = [1, 2, 3]
"""Over and over: there is always a draft."""


def drafter_of(longest: int) -> LookupDrafter:
    return LookupDrafter(np.array(PERIOD * 3), longest)


def lengths(drafter: LookupDrafter, accepted: list[int]) -> list[int]:
    """Of the drafts of so many steps, where at most so many tokens of each are right."""
    found = []
    generated: list[int] = []
    for most in accepted:
        draft = drafter.draft(generated, room=100)
        found.append(len(draft))
        if draft:
            drafter.verified(len(draft), min(most, len(draft)))
        generated += [PERIOD[len(generated) % 3]]
    return found


def test_a_draft_that_was_right_is_followed_by_one_twice_as_long() -> None:
    assert lengths(drafter_of(30), [30] * 5) == [4, 8, 16, 30, 30]
    assert lengths(drafter_of(3), [30] * 3) == [3, 3, 3]


def test_one_that_was_right_in_part_by_one_as_long_as_that() -> None:
    assert lengths(drafter_of(30), [30, 30, 5, 5, 2, 1, 1]) == [4, 8, 16, 5, 10, 2, 1]


def test_after_wrong_ones_the_pauses_grow_to_a_limit() -> None:
    steps = lengths(drafter_of(30), [0] * 500)
    drafts = [step for step, length in enumerate(steps) if length]
    pauses = [b - a - 1 for a, b in pairwise(drafts)]
    assert pauses == [1, 2, 4, 8, 16, 32, *[LONGEST_PAUSE] * (len(pauses) - 6)]
    assert [steps[step] for step in drafts] == [FIRST_LENGTH, *[1] * (len(drafts) - 1)]


def test_a_right_one_ends_the_caution() -> None:
    assert lengths(drafter_of(30), [0, 0, 1, 2, 4, 4]) == [4, 0, 1, 2, 4, 8]
    assert lengths(drafter_of(30), [0, 0, 1, 0, 0, 1]) == [4, 0, 1, 2, 0, 1]


def test_without_a_match_there_is_no_draft() -> None:
    drafter = LookupDrafter(np.array([1, 2, 3]), longest=9)
    assert drafter.draft([], room=9) == ()
    assert drafter.draft([1], room=9) == ()
    assert drafter.draft([1, 2], room=2) == (3, 1)


@given(accepted=st.lists(st.integers(0, 9), max_size=60), longest=st.integers(1, 9))
def test_no_draft_is_longer_than_it_may_be_and_what_was_right_is_counted(
    accepted: list[int], longest: int
) -> None:
    drafter = drafter_of(longest)
    found = lengths(drafter, accepted)
    assert max(found, default=0) <= longest
    assert drafter.drafted == sum(found)
    assert drafter.accepted == sum(map(min, found, accepted))
