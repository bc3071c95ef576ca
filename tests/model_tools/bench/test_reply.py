"""What is made of an answer's bytes, whole, byte by byte, and cut short."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_tools.bench.serve.client import End, Exchange
from model_tools.bench.serve.dialect import DIALECTS, Settings
from model_tools.bench.serve.prompts import Request
from model_tools.bench.serve.reply import Outcome, Reply, read_reply
from model_tools.bench.serve.target import Target
from tests.model_tools.bench.fake_server import llama, openai, paddler

SETTINGS = Settings(model="m", temperature=0, ignore_eos=True, cache_prompt=False)
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SENT = 100.0


def chunks(pieces: Iterable[bytes]) -> list[bytes]:
    return [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]


def read(
    arrivals: list[tuple[float, bytes]],
    *,
    dialect: str = "paddler",
    end: End = End.CLOSED,
    fixed_length: int | None = None,
) -> Reply:
    target = Target.of("http://localhost:1", DIALECTS[dialect])
    call = target.post(Request("a b", 9, None), SETTINGS)
    return read_reply(Exchange(call, SENT, arrivals, end), DIALECTS[dialect], fixed_length)


def timed(pieces: list[bytes]) -> list[tuple[float, bytes]]:
    """The head at once, and then a piece each second."""
    return [(SENT + number, piece) for number, piece in enumerate([HEAD, *pieces])]


STREAMS = {
    "legacy": ("paddler", list(paddler(4, v4=False))),
    "v4": ("paddler", list(paddler(4, v4=True))),
    "completions": ("openai", list(openai(4, chat=False))),
    "chat": ("openai-chat", list(openai(4, chat=True))),
    "llama": ("llama", list(llama(4))),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_an_answer_in_any_dialect_is_complete(stream: str) -> None:
    dialect, pieces = STREAMS[stream]
    reply = read(timed(chunks([*pieces, b""])), dialect=dialect)
    assert (reply.outcome, reply.reason, reply.tokens) == (Outcome.COMPLETE, "", 4)
    assert reply.time_to_first_token == 1
    assert set(reply.gaps) == {1}


@pytest.mark.parametrize("stream", STREAMS)
@given(data=st.data())
def test_however_the_bytes_arrive_the_tokens_are_the_same(stream: str, data: st.DataObject) -> None:
    dialect, pieces = STREAMS[stream]
    whole = HEAD + b"".join(chunks([*pieces, b""]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=20)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    reply = read([(SENT + n, part) for n, part in enumerate(parts)], dialect=dialect)
    assert (reply.outcome, reply.tokens) == (Outcome.COMPLETE, 4)
    assert len(reply.times) <= min(len(parts), 4)
    assert list(reply.times) == sorted(set(reply.times))


def test_tokens_that_come_together_are_no_gaps() -> None:
    together = b"".join(chunks([*paddler(4, v4=False), b""]))
    reply = read([(SENT + 1, HEAD), (SENT + 2, together)])
    assert (reply.times, reply.gaps, reply.tokens) == ((2,), [], 4)
    assert reply.time_per_output_token is None


def test_time_per_output_token_counts_tokens_and_not_chunks() -> None:
    reply = read(timed(chunks([*openai(4, chat=False), b""])), dialect="openai")
    assert reply.times == (1, 2)
    assert reply.time_per_output_token == pytest.approx(1 / 3)


def test_a_token_without_text_counts_where_the_length_is_known() -> None:
    pieces = chunks([*paddler(4, v4=False), b""])
    assert read(timed(pieces), fixed_length=6).tokens == 6
    assert read(timed(pieces[:3]), fixed_length=6).tokens == 3
    ended = read(timed(pieces), fixed_length=60)
    assert ended.outcome is Outcome.INCOMPLETE
    assert "ignore the end of text" in ended.reason
    assert ended.tokens < 6


@pytest.mark.parametrize(
    ("dialect", "pieces"),
    [("paddler", list(paddler(0, v4=True))), ("openai", list(openai(0, chat=False)))],
)
def test_a_server_may_count_no_token(dialect: str, pieces: list[bytes]) -> None:
    assert read(timed(chunks([*pieces, b""])), dialect=dialect, fixed_length=6).tokens == 0


def test_what_the_server_counts_goes_before_what_is_known() -> None:
    assert read(timed(chunks([*paddler(4, v4=True), b""])), fixed_length=6).tokens == 4


def test_an_answer_that_stops_is_incomplete() -> None:
    reply = read(timed(chunks(paddler(4, v4=False))[:2]))
    assert (reply.outcome, reply.tokens) == (Outcome.INCOMPLETE, 2)
    assert "closed connection" in reply.reason


def error_line(code: int) -> bytes:
    error = {"request_id": "1", "error": {"code": code, "description": "no slot"}}
    return json.dumps({"Error": error}).encode() + b"\n"


@pytest.mark.parametrize(
    ("before", "code", "outcome"),
    [
        (0, 503, Outcome.REFUSED),
        (0, 504, Outcome.REFUSED),
        (0, 500, Outcome.FAILED),
        (2, 504, Outcome.FAILED),
    ],
)
def test_an_error_in_the_stream_is_a_refusal_or_a_failure(
    before: int, code: int, outcome: Outcome
) -> None:
    pieces = [*list(paddler(4, v4=False))[:before], error_line(code), b""]
    reply = read(timed(chunks(pieces)))
    assert (reply.outcome, reply.reason) == (outcome, f"{code}: no slot")
    assert reply.tokens == before


VLLM_FAILS = b'data: {"error": {"message": "no memory"}}\n\ndata: [DONE]\n\n'


@given(cut=st.integers(1, len(VLLM_FAILS) - 1))
def test_an_error_is_one_though_the_stream_ends_as_any_other(cut: int) -> None:
    pieces = [VLLM_FAILS[:cut], VLLM_FAILS[cut:], b""]
    reply = read(timed(chunks(pieces)), dialect="openai", fixed_length=9)
    assert (reply.outcome, reply.reason) == (Outcome.FAILED, "500: no memory")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(429, Outcome.REFUSED), (503, Outcome.REFUSED), (400, Outcome.FAILED), (500, Outcome.FAILED)],
)
def test_a_status_is_a_refusal_or_a_failure(status: int, outcome: Outcome) -> None:
    head = b"HTTP/1.1 %d No\r\nContent-Length: 3\r\n\r\n" % status
    reply = read([(SENT, head + b"not"), (SENT, b"")])
    assert (reply.outcome, reply.reason) == (outcome, f"{status}: not")


@pytest.mark.parametrize("end", [End.BROKEN, End.TIMED_OUT])
def test_no_answer_at_all_is_a_failure(end: End) -> None:
    reply = read([], end=end)
    assert (reply.outcome, reply.reason) == (Outcome.FAILED, end.value)


def test_a_client_that_left_has_left() -> None:
    reply = read(timed(chunks(paddler(4, v4=False))[:2]), end=End.LEFT)
    assert (reply.outcome, reply.tokens) == (Outcome.LEFT, 2)


@pytest.mark.parametrize(
    ("dialect", "line"),
    [
        ("llama", b"data: {}\n"),
        ("llama", b'data: {"content": "", "stop": true, "tokens_predicted": "4"}\n'),
        ("openai", b'data: {"choices": [], "usage": {"completion_tokens": [4]}}\n'),
        ("paddler", b"[1]\n"),
    ],
)
def test_another_language_than_the_dialect_is_a_failure(dialect: str, line: bytes) -> None:
    reply = read(timed(chunks([line, b""])), dialect=dialect)
    assert reply.outcome is Outcome.FAILED
    assert reply.reason.startswith("500: not the dialect")


@pytest.mark.parametrize(
    ("dialect", "line"),
    [
        ("llama", b'error: {"code": 400, "message": "bad"}\n'),
        ("llama", b'data: {"error": {"code": 400, "message": "bad"}}\n'),
        ("openai", b'data: {"error": {"code": 400, "message": "bad"}}\n'),
    ],
)
def test_errors_of_other_dialects_are_read(dialect: str, line: bytes) -> None:
    reply = read(timed(chunks([line, b""])), dialect=dialect)
    assert (reply.outcome, reply.reason) == (Outcome.FAILED, "400: bad")


def test_what_a_server_says_is_one_line_and_not_too_long() -> None:
    page = b"<html>\r\n  <body>%b</body>\n</html>" % (b"x" * 5000)
    head = b"HTTP/1.1 501 No\r\nContent-Length: %d\r\n\r\n" % len(page)
    reply = read([(SENT, head + page), (SENT, b"")])
    assert reply.reason.startswith("501: <html> <body>xxx")
    assert len(reply.reason) < 250


def test_an_error_may_be_without_words() -> None:
    line = b'{"Error": {"request_id": "1", "error": {"code": 500, "description": null}}}\n'
    reply = read(timed(chunks([line, b""])))
    assert (reply.outcome, reply.reason) == (Outcome.FAILED, "500: None")
