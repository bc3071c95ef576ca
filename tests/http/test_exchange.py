"""What a handler can say, and what is said for it when it fails."""

import logging

import pytest
import trio

from server.errors import ClientError
from server.http.exchange import Exchange, Handler
from server.http.messages import Response
from server.http.routing import Route, Router
from tests.http.conversation import ScriptedClient, converse
from tests.http.framing_cases import head

FAULT = "server.http.exchange"


def ask(handler: Handler, request: bytes | None = None) -> ScriptedClient:
    [client] = converse([request or head()], router=Router([Route("GET", "/", handler)]))
    return client


async def three_lines(exchange: Exchange) -> None:
    async with exchange.stream(200, ((b"Content-Type", b"text/plain"),)) as send:
        for line in (b"one\n", b"two\n", b"three\n"):
            await send(line)


def test_each_line_is_one_chunk_and_one_write() -> None:
    client = ask(three_lines)
    start, *chunks = client.writes
    assert start.endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert chunks == [
        b"4\r\none\n\r\n",
        b"4\r\ntwo\n\r\n",
        b"6\r\nthree\n\r\n",
        b"0\r\n\r\n",
    ]


def test_lines_that_are_there_together_are_chunks_in_one_write() -> None:
    async def together(exchange: Exchange) -> None:
        async with exchange.stream(200, ()) as send:
            await send(b"one\n", b"", b"two\n")
            await send(b"")

    assert ask(together).writes[1:] == [b"4\r\none\n\r\n4\r\ntwo\n\r\n", b"0\r\n\r\n"]
    old = ask(together, head(first=b"GET / HTTP/1.0"))
    assert old.transcript.endswith(b"\r\n\r\none\ntwo\n")


def test_nothing_follows_the_end_of_a_stream(caplog: pytest.LogCaptureFixture) -> None:
    async def goes_on(exchange: Exchange) -> None:
        async with exchange.stream(200, ()) as send:
            await send(b"one")
        await send(b"two")

    assert ask(goes_on).writes[1:] == [b"3\r\none\r\n", b"0\r\n\r\n"]
    assert "LocalProtocolError" in caplog.text


def test_a_stream_leaves_the_connection_open() -> None:
    assert ask(three_lines, head() * 2).statuses == [200, 200]


def test_http_1_0_gets_the_bytes_and_the_end() -> None:
    client = ask(three_lines, head(first=b"GET / HTTP/1.0"))
    assert client.transcript.endswith(b"\r\nConnection: close\r\n\r\none\ntwo\nthree\n")


def test_head_gets_the_head_of_a_stream() -> None:
    assert ask(three_lines, head(first=b"HEAD / HTTP/1.1")).writes[1:] == []


def test_the_head_of_a_stream_does_not_wait_for_its_body() -> None:
    async def late(exchange: Exchange) -> None:
        async with exchange.stream(200, ()) as send:
            assert not exchange.unanswered
            assert not exchange.answered
            await send(b"late")

    start, *chunks = ask(late).writes
    assert start.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(chunks) == 2


def test_a_client_error_is_its_status_and_sentence() -> None:
    async def refuse(exchange: Exchange) -> None:
        raise ClientError(422, "the tea: is no coffee")

    client = ask(refuse, head() * 2)
    assert client.statuses == [422, 422]
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in client.transcript
    assert client.transcript.endswith(b"\r\n\r\nthe tea: is no coffee\n")


def test_a_fault_is_logged_and_the_client_learns_only_its_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(exchange: Exchange) -> None:
        ids.append(exchange.request.id)
        raise ValueError("a secret path")

    ids: list[str] = []
    client = ask(fail, head() * 2)
    assert client.statuses == [500, 500]
    assert f"request {ids[1]}\n".encode() in client.transcript
    assert b"secret" not in client.transcript
    assert "a secret path" in caplog.text
    assert ids[0] in caplog.text
    assert len(set(ids)) == 2
    assert {len(one) for one in ids} == {21}


def test_no_answer_is_a_fault() -> None:
    async def silent(exchange: Exchange) -> None:
        await trio.lowlevel.checkpoint()

    assert ask(silent).statuses == [500]


def test_a_fault_in_a_stream_cuts_it() -> None:
    async def fail(exchange: Exchange) -> None:
        async with exchange.stream(200, ()) as send:
            await send(b"half")
            raise ValueError

    client = ask(fail, head() * 2)
    assert client.statuses == [200]
    assert client.writes[1:] == [b"4\r\nhalf\r\n"]


def test_a_fault_in_a_stream_has_its_last_words() -> None:
    async def fail(exchange: Exchange) -> None:
        async with exchange.stream(200, (), error_chunk=b"sorry") as send:
            await send(b"half")
            raise ClientError(400, "too late for a status")

    client = ask(fail)
    assert client.writes[1:] == [b"4\r\nhalf\r\n", b"5\r\nsorry\r\n", b"0\r\n\r\n"]


def test_a_fault_after_the_answer_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.respond(Response(200, b"done"))
        raise ValueError

    assert ask(fail, head() * 2).statuses == [200, 200]
    assert [record.levelno for record in caplog.records if record.name == FAULT] == [
        logging.ERROR
    ] * 2


def test_two_answers_are_a_fault_and_one_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def twice(exchange: Exchange) -> None:
        await exchange.respond(Response(200, b"one"))
        await exchange.respond(Response(200, b"two"))

    assert ask(twice).statuses == [200]
    assert "LocalProtocolError" in caplog.text
