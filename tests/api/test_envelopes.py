"""The legacy dialect, byte for byte."""

import json

from hypothesis import given
from hypothesis import strategies as st

from server.api.envelopes import Envelopes
from server.engine.events import Failed, Finished, FinishReason, Text

ENVELOPES = Envelopes("V1StGXR8_Z5jdHi6B-myT")


def test_the_lines_are_those_of_the_seed_page() -> None:
    assert ENVELOPES.encode(Text(" Paris")) == (
        b'{"Response":{"request_id":"V1StGXR8_Z5jdHi6B-myT",'
        b'"response":{"GeneratedToken":{"Token":" Paris"}}}}\n'
    )
    assert ENVELOPES.encode(Finished(FinishReason.STOP, 3, 1)) == (
        b'{"Response":{"request_id":"V1StGXR8_Z5jdHi6B-myT",'
        b'"response":{"GeneratedToken":"Done"}}}\n'
    )
    assert ENVELOPES.encode(Failed(503, "no room")) == (
        b'{"Error":{"request_id":"V1StGXR8_Z5jdHi6B-myT",'
        b'"error":{"code":503,"description":"no room"}}}\n'
    )


def test_a_full_length_ends_like_a_stop() -> None:
    assert ENVELOPES.encode(Finished(FinishReason.LENGTH, 3, 1)) == ENVELOPES.encode(
        Finished(FinishReason.STOP, 3, 1)
    )


@given(st.text())
def test_any_text_is_one_ascii_line_that_reads_back(text: str) -> None:
    for event in (Text(text), Failed(500, text)):
        line = ENVELOPES.encode(event)
        assert line.isascii()
        assert line.decode().splitlines(keepends=True) == [line.decode()]
        compact = json.dumps(json.loads(line), separators=(",", ":")).encode() + b"\n"
        assert line == compact
    token = json.loads(ENVELOPES.encode(Text(text)))
    assert token["Response"]["response"]["GeneratedToken"]["Token"] == text
