"""Whether a call that was made ahead is the one that is asked for, and whether to make one."""

from server.model.gpu.foresight import Asked, Foresight

CALL = Asked(0, [5, 6], [9, 30])


def test_a_call_is_taken_once_and_only_for_what_it_was_made() -> None:
    foresight = Foresight[str]()
    assert foresight.take(CALL) is None
    foresight.expect(CALL, "made")
    assert foresight.take(Asked(0, [5, 6], [9, 30])) == "made"
    assert foresight.take(CALL) is None
    for other in (Asked(0, [5, 7], [9, 30]), Asked(0, [5], [9]), Asked(1, [5, 6], [9, 30])):
        foresight.expect(CALL, "made")
        assert foresight.take(other) is None
        assert foresight.take(CALL) is None


def test_a_call_is_lost_when_anything_else_happens() -> None:
    foresight = Foresight[str]()
    foresight.expect(CALL, "made")
    foresight.lost()
    assert foresight.take(CALL) is None


def after(outcomes: list[bool]) -> bool:
    """Whether calls are made ahead after so many that were foreseen or were not."""
    foresight = Foresight[str]()
    for right in outcomes:
        foresight.expect(CALL, None)
        foresight.take(CALL if right else Asked(0, [5, 7], [9, 30]))
    return foresight.trusted


def test_it_is_trusted_as_long_as_nearly_all_were_foreseen() -> None:
    assert after([])
    assert after(([True] * 19 + [False]) * 20)
    assert not after(([True] * 9 + [False]) * 20)
    assert not after([False] * 3)
    assert after([False] * 100 + [True] * 100)


def test_what_was_not_expected_counts_for_nothing() -> None:
    foresight = Foresight[str]()
    for _ in range(50):
        foresight.lost()
        foresight.take(CALL)
    assert foresight.trusted
