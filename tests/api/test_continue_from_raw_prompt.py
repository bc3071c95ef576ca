"""The route, from the client's bytes to the engine and back."""

import json
import re

import pytest
import trio

from server.api.engine_metrics import EngineMetrics
from server.api.routes import inference_routes
from server.config import Address, Limits, SamplingParameters
from server.engine.events import Event, Failed, Finished, FinishReason, NotTaken, Text
from server.errors import ClientError
from server.http.listener import bound_addresses, open_listeners, serve
from server.http.open_connections import OpenConnections
from tests.api.fake_engine import FakeEngine
from tests.http.conversation import ScriptedClient, converse
from tests.http.framing_cases import head

SAMPLING = SamplingParameters(temperature=0.7, seed=1)
DONE = Finished(FinishReason.LENGTH, 5, 2)
VALID = b'{"max_tokens": 40, "raw_prompt": "The capital of France is"}'
SECONDS = 10.0
"""Longer than anything takes on a busy machine; a test that hangs ends here."""
JSON = b"Content-Type: application/json"


def post(body: bytes) -> bytes:
    first = b"POST /api/v1/continue_from_raw_prompt HTTP/1.1"
    return head(JSON, b"Content-Length: %d" % len(body), first=first) + body


def ask(engine: FakeEngine, body: bytes = VALID, *, leaves: bool = False) -> ScriptedClient:
    [client] = converse(
        [post(body)], router=inference_routes(engine, SAMPLING, EngineMetrics()), leaves=leaves
    )
    return client


def lines(client: ScriptedClient) -> list[bytes]:
    """The chunks of the body, each of which was a write; without the one that ends it."""
    _, *writes, end = client.writes
    assert end == b"0\r\n\r\n"
    chunks = [re.fullmatch(rb"([0-9a-f]+)\r\n(.*\n)\r\n", write) for write in writes]
    for chunk in chunks:
        assert chunk is not None
        assert len(chunk[2]) == int(chunk[1], 16)
    return [chunk[2] for chunk in chunks if chunk is not None]


def test_a_stream_is_as_the_seed_page_says() -> None:
    engine = FakeEngine([Text(" Paris"), Text(" \u2028é"), DONE])
    client = ask(engine)
    [request] = engine.requests
    generated = b'{"Response":{"request_id":"%b","response":{"GeneratedToken":' % (
        request.request_id.encode()
    )
    assert client.statuses == [200]
    assert client.transcript.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:] == [
        b"Content-Type: application/json",
        b"Cache-Control: no-cache",
        b"Transfer-Encoding: chunked",
    ]
    assert lines(client) == [
        generated + b'{"Token":" Paris"}}}}\n',
        generated + b'{"Token":" \\u2028\\u00e9"}}}}\n',
        generated + b'"Done"}}}\n',
    ]
    assert engine.cancelled == []


def test_the_engine_gets_what_was_asked() -> None:
    engine = FakeEngine([DONE])
    ask(engine)
    [request] = engine.requests
    assert re.fullmatch("[A-Za-z0-9_-]{21}", request.request_id)
    assert request.prompt == "The capital of France is"
    assert request.prompt_field == "raw_prompt"
    assert request.max_tokens == 40
    assert request.sampling == SAMPLING


def test_each_request_has_an_id_of_its_own() -> None:
    engine = FakeEngine([DONE])
    converse([post(VALID) * 20], router=inference_routes(engine, SAMPLING, EngineMetrics()))
    assert len({request.request_id for request in engine.requests}) == 20


@pytest.mark.parametrize("before", [(), (Text("half"),)])
def test_a_failure_is_the_last_line(before: tuple[Event, ...]) -> None:
    engine = FakeEngine([*before, Failed(503, "no slot")])
    client = ask(engine)
    assert client.statuses == [200]
    assert json.loads(lines(client)[-1]) == {
        "Error": {
            "request_id": engine.requests[0].request_id,
            "error": {"code": 503, "description": "no slot"},
        }
    }


def test_a_fault_is_an_error_line_without_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine([Text("half"), ValueError("a secret path")])
    last = json.loads(lines(ask(engine))[-1])
    assert last["Error"]["error"] == {"code": 500, "description": "Internal server error"}
    assert "a secret path" in caplog.text


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"max_tokens": 1}', "raw_prompt: is missing"),
        (b'{"raw_prompt": ""}', "max_tokens: is missing"),
        (b'{"max_tokens": 0, "raw_prompt": ""}', "max_tokens: must be between 1 and 2147483647"),
        (
            b'{"max_tokens": 2147483648, "raw_prompt": ""}',
            "max_tokens: must be between 1 and 2147483647",
        ),
        (b'{"max_tokens": 1, "raw_prompt": 1}', "raw_prompt: must be a string, not a number"),
        (b'{"grammar": null}', '"grammar": is not a known field'),
        (b"{", "malformed JSON: expected a string at character 1"),
    ],
)
def test_a_wrong_body_is_a_400_that_names_the_field(body: bytes, sentence: str) -> None:
    engine = FakeEngine([DONE])
    client = ask(engine, body)
    assert client.statuses == [400]
    assert client.transcript.endswith(b"\r\n\r\n" + sentence.encode() + b"\n")
    assert engine.requests == []


def test_what_the_engine_refuses_is_a_status_and_no_stream() -> None:
    engine = FakeEngine(refusal=ClientError(400, "raw_prompt: 9 tokens are too many"))
    client = ask(engine)
    assert client.statuses == [400]
    assert client.transcript.endswith(b"\r\n\r\nraw_prompt: 9 tokens are too many\n")


def test_what_the_engine_does_not_take_is_one_line_in_one_write() -> None:
    client = ask(FakeEngine(refusal=NotTaken(Failed(503, "no room"))))
    assert client.statuses == [200]
    assert len(client.writes) == 1
    head, _, line = client.transcript.partition(b"\r\n\r\n")
    assert b"\r\nContent-Type: application/json\r\nCache-Control: no-cache\r\n" in head
    assert json.loads(line)["Error"]["error"] == {"code": 503, "description": "no room"}


def test_leaving_ends_the_generation() -> None:
    engine = FakeEngine([Text("half")])
    ask(engine, leaves=True)
    assert engine.cancelled == [engine.requests[0].request_id]


def test_health_is_exactly_ok() -> None:
    router = inference_routes(FakeEngine(), SAMPLING, EngineMetrics())
    [client] = converse([head(first=b"GET /health HTTP/1.1")], router=router)
    assert client.transcript == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nOK"
    )


def test_a_real_socket_carries_it_too() -> None:
    engine = FakeEngine([Text("half")])

    async def stream_and_leave() -> bytes:
        [listener] = await open_listeners(Address("127.0.0.1", 0))
        [address] = bound_addresses([listener])
        assert isinstance(address, Address)
        async with trio.open_nursery() as nursery:
            router = inference_routes(engine, SAMPLING, EngineMetrics())
            nursery.start_soon(serve, listener, router, Limits(), OpenConnections(9))
            said = b""
            async with await trio.open_tcp_stream(address.host, address.port) as stream:
                await stream.send_all(post(VALID))
                while b"half" not in said:
                    said += await stream.receive_some()
            while not engine.cancelled:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        return said

    async def bounded() -> bytes:
        with trio.fail_after(SECONDS):
            return await stream_and_leave()

    assert trio.run(bounded).startswith(b"HTTP/1.1 200 OK\r\n")
