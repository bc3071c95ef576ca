"""Admission against the rule in its plainest form: the first so many that are there have a slot."""

from hypothesis import given
from hypothesis import strategies as st

from server.engine.admission import Admission, Standing

SLOTS, ROOM = 2, 3


@given(leaving=st.lists(st.none() | st.integers(0, SLOTS + ROOM - 1), max_size=60))
def test_the_first_who_are_there_have_a_slot(leaving: list[int | None]) -> None:
    """None arrives; a number leaves from this place in the order of arrival."""
    admission = Admission(ROOM)
    admission.open(SLOTS)
    there: list[int] = []
    for key, place in enumerate(leaving):
        if place is None:
            standing = admission.enter(key)
            if len(there) == SLOTS + ROOM:
                assert standing is Standing.REFUSED
                continue
            assert standing is (Standing.ADMITTED if len(there) < SLOTS else Standing.BUFFERED)
            there.append(key)
        elif place < len(there):
            follower = there[SLOTS] if place < SLOTS < len(there) else None
            assert admission.leave(there.pop(place)) == follower


def test_without_a_buffer_nobody_waits() -> None:
    admission = Admission(0)
    assert admission.enter(7) is Standing.REFUSED
    assert admission.open(1) == []
    assert admission.enter(0) is Standing.ADMITTED
    assert admission.enter(1) is Standing.REFUSED
    assert admission.leave(0) is None
    assert admission.enter(2) is Standing.ADMITTED


def test_who_is_not_there_leaves_nothing() -> None:
    admission = Admission(1)
    admission.open(1)
    admission.enter(0)
    admission.enter(1)
    assert admission.leave(7) is None
    assert admission.leave(0) == 1
    assert admission.leave(0) is None


def test_before_there_are_slots_all_wait_for_them_in_order() -> None:
    admission = Admission(ROOM)
    assert [admission.enter(key) for key in range(ROOM)] == [Standing.BUFFERED] * ROOM
    assert admission.enter(ROOM) is Standing.REFUSED
    assert admission.leave(0) is None
    assert admission.open(SLOTS - 1) == [1]
    assert admission.leave(1) == 2
