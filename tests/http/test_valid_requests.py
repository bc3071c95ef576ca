"""What is valid is read as it was written, however it is framed, cut into packets and pipelined."""

import string
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http.conversation import converse
from tests.http.framing_cases import LIMITS, head


@dataclass(frozen=True, slots=True)
class Written:
    """A request as bytes, and what the echo says of it."""

    sent: bytes
    echoed: bytes


TCHAR = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
tokens = st.text(TCHAR, min_size=1, max_size=8).map(str.encode)
queries = st.text(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@/?", max_size=20)
spaces = st.sampled_from([b"", b" ", b"\t", b" \t "])
values = st.binary(max_size=20).map(
    lambda value: bytes(byte for byte in value if byte >= 0x20 and byte != 0x7F)
)
fields = st.lists(
    st.builds(
        lambda name, before, value, after: b"X-%b:%b%b%b" % (name, before, value, after),
        tokens,
        spaces,
        values,
        spaces,
    ),
    max_size=3,
)
extensions = st.one_of(
    st.just(b""),
    tokens.map(lambda name: b";" + name),
    st.builds(lambda name, value: b" ; %b=%b" % (name, value), tokens, tokens),
    tokens.map(lambda name: b';a="%b \\" ;"' % name),
)


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    """`body` in up to as many chunks as may be, with all that may stand beside the data."""
    most = LIMITS.body_chunks - 1
    cuts = sorted(draw(st.sets(st.integers(1, len(body) - 1), max_size=most))) if body[1:] else []
    pieces = [body[a:b] for a, b in pairwise([0, *cuts, len(body)]) if a < b]
    form = draw(st.sampled_from([b"%x", b"%X", b"00%x"]))
    lines = [form % len(piece) + draw(extensions) + b"\r\n" + piece for piece in pieces]
    trailers = b"".join(line + b"\r\n" for line in draw(fields))
    return b"\r\n".join([*lines, b"0" + draw(extensions) + b"\r\n" + trailers + b"\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> Written:
    method = draw(st.sampled_from(["GET", "POST"]))
    body = draw(st.binary(max_size=LIMITS.body_bytes))
    query = draw(queries)
    target = "/?" + query
    if draw(st.booleans()):
        framing, content = b"Transfer-Encoding: chunked", draw(chunked(body))
    else:
        framing, content = b"Content-Length: %d" % len(body), body
    lines = draw(st.permutations([framing, *draw(fields)]))
    return Written(
        head(*lines, first=f"{method} {target} HTTP/1.1".encode()) + content,
        f"{method} / {query} ".encode() + body,
    )


@settings(max_examples=200)
@given(st.lists(requests(), min_size=1, max_size=3), st.data())
def test_each_is_answered_with_what_it_said(written: list[Written], data: st.DataObject) -> None:
    sent = b"".join(request.sent for request in written)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    packets = [sent[a:b] for a, b in pairwise([0, *cuts, len(sent)]) if a < b]
    [client] = converse(packets, limits=LIMITS)
    assert client.statuses == [200] * len(written)
    answers = [write.partition(b"\r\n\r\n")[2] for write in client.writes]
    assert answers == [request.echoed for request in written]
