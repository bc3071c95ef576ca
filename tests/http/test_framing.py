"""Each framing rule, in memory: the answer, and the same answer however the bytes arrive."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http.conversation import bytewise, converse
from tests.http.framing_cases import CASES, LIMITS, Case, head

NEXT = head()
"""A request that is answered if the connection survives."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_a_rule_has_its_answer_and_no_other(case: Case) -> None:
    [client] = converse([case.sent + NEXT], limits=LIMITS)
    assert client.statuses == [*case.statuses, *([] if case.is_last else [200])]
    closing = [b"\r\nConnection: close\r\n" in write for write in client.writes]
    assert closing == [False] * (len(closing) - 1) + [case.is_last]
    if case.body is not None:
        assert client.writes[0].endswith(b"\r\n\r\n" + case.body)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_the_answer_does_not_depend_on_packets(case: Case) -> None:
    sent = case.sent
    splits = [(sent[:at], sent[at:]) for at in range(1, len(sent))]
    whole, *others = converse((sent,), bytewise(sent), *splits, limits=LIMITS)
    assert whole.statuses
    for other in others:
        assert other.transcript == whole.transcript


@st.composite
def damaged_requests(draw: st.DrawFn) -> bytes:
    """A request of the table with a few bytes lost, changed or added."""
    data = bytearray(draw(st.sampled_from(CASES)).sent)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(
            st.one_of(st.sampled_from(TELLING), st.binary(max_size=2))
        )
    return bytes(data)


TELLING = [b"\r\n", b"\n", b"\r", b" ", b":", b",", b";", b"\0", b"0", b"Host: y\r\n", b"\r\n\r\n"]


SCRAPS = [
    *(b"GET ", b"POST ", b"/", b"/?a=b", b" HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n"),
    *(b"Host: x\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"5\r\n", b"hello", b"0\r\n\r\n", b"Connection: close\r\n", *TELLING),
]
scraps = st.lists(st.sampled_from(SCRAPS) | st.binary(max_size=3), max_size=12).map(b"".join)


@settings(max_examples=500)
@given(damaged_requests() | scraps, st.data())
def test_no_damage_is_our_fault(data: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=5)))
    pieces = [data[a:b] for a, b in pairwise([0, *cuts, len(data)]) if a < b]
    whole, cut = converse([data] if data else [], pieces, limits=LIMITS)
    assert whole.transcript == cut.transcript
    assert set(whole.statuses) <= ANSWERS
    assert H11_IS_STRICTER not in whole.transcript


H11_IS_STRICTER = b"\r\n\r\nmalformed request\n"
"""What is said when h11 refuses what our own rules let pass."""
ANSWERS = {100, 200, 204, 400, 404, 405, 408, 413, 414, 417, 431, 501, 505}
