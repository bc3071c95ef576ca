"""Which request reaches which handler, and which reaches none."""

import pytest

from server.http.exchange import Exchange
from server.http.routing import Route, Router
from tests.http.conversation import ScriptedClient, converse, echo
from tests.http.framing_cases import head


async def never(exchange: Exchange) -> None:
    raise AssertionError


ROUTER = Router(
    [
        Route("GET", "/both", echo),
        Route("POST", "/both", never),
        Route("POST", "/json", echo, consumes=b"application/json"),
    ]
)


def ask(first: bytes, *fields: bytes) -> ScriptedClient:
    [client] = converse([head(*fields, first=first + b" HTTP/1.1")], router=ROUTER)
    return client


def test_the_method_chooses() -> None:
    assert ask(b"GET /both").transcript.endswith(b"GET /both  ")


def test_a_wrong_method_names_the_right_ones() -> None:
    client = ask(b"DELETE /both")
    assert client.statuses == [405]
    assert b"\r\nAllow: GET, HEAD, OPTIONS, POST\r\n" in client.transcript
    assert b"\r\nAllow: OPTIONS, POST\r\n" in ask(b"GET /json").transcript


def test_options_are_told() -> None:
    assert b"\r\nAllow: OPTIONS, POST\r\n" in ask(b"OPTIONS /json").transcript
    assert b"\r\nAllow: GET, HEAD, OPTIONS, POST\r\n" in ask(b"OPTIONS *").transcript
    assert b"Content-Length" not in ask(b"OPTIONS /json").transcript


def test_head_is_get_without_a_body() -> None:
    client = ask(b"HEAD /both")
    assert b"\r\nContent-Length: 12\r\n" in client.transcript
    assert client.transcript.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "value", [b"application/json", b"Application/JSON", b"application/json ; charset=utf-8"]
)
def test_the_media_type_is_accepted(value: bytes) -> None:
    assert ask(b"POST /json", b"Content-Type: " + value).statuses == [200]


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (b"Content-Type:",),
        (b"Content-Type: text/plain",),
        (b"Content-Type: application/jsonp",),
        (b"Content-Type: application/x-www-form-urlencoded",),
        (b"Content-Type: application/json", b"Content-Encoding: gzip"),
    ],
)
def test_another_media_type_is_refused(fields: tuple[bytes, ...]) -> None:
    client = ask(b"POST /json", *fields)
    assert client.statuses == [415]
    assert b"\r\nAccept" in client.transcript


def test_a_content_encoding_is_refused_where_no_body_is_wanted_either() -> None:
    client = ask(b"GET /both", b"Content-Encoding: gzip")
    assert client.statuses == [415]
    assert b"\r\nAccept-Encoding: identity\r\n" in client.transcript
