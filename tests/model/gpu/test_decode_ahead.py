"""Whether a call that was made ahead is the one that is asked for, and whether to make one."""

from server.model.gpu.decode_ahead import DecodeAhead, DecodeRequest

CALL = DecodeRequest(0, [5, 6], [9, 30])


def test_a_call_is_taken_once_and_only_for_what_it_was_made() -> None:
    ahead = DecodeAhead[str]()
    assert ahead.take(CALL) is None
    ahead.expect(CALL, "made")
    assert ahead.take(DecodeRequest(0, [5, 6], [9, 30])) == "made"
    assert ahead.take(CALL) is None
    for other in (
        DecodeRequest(0, [5, 7], [9, 30]),
        DecodeRequest(0, [5], [9]),
        DecodeRequest(1, [5, 6], [9, 30]),
    ):
        ahead.expect(CALL, "made")
        assert ahead.take(other) is None
        assert ahead.take(CALL) is None


def test_a_call_is_lost_when_anything_else_happens() -> None:
    ahead = DecodeAhead[str]()
    ahead.expect(CALL, "made")
    ahead.lost()
    assert ahead.take(CALL) is None


def after(outcomes: list[bool]) -> bool:
    """Whether calls are made ahead after so many that were foreseen or were not."""
    ahead = DecodeAhead[str]()
    for right in outcomes:
        ahead.expect(CALL, None)
        ahead.take(CALL if right else DecodeRequest(0, [5, 7], [9, 30]))
    return ahead.trusted


def test_it_is_trusted_as_long_as_nearly_all_were_foreseen() -> None:
    assert after([])
    assert after(([True] * 19 + [False]) * 20)
    assert not after(([True] * 9 + [False]) * 20)
    assert not after([False] * 3)
    assert after([False] * 100 + [True] * 100)


def test_what_was_not_expected_counts_for_nothing() -> None:
    ahead = DecodeAhead[str]()
    for _ in range(50):
        ahead.lost()
        ahead.take(CALL)
    assert ahead.trusted
