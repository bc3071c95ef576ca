"""The document says what the reader reads and the encoder writes."""

import json
import math
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st

from server.api.engine_metrics import EngineMetrics
from server.api.envelopes import LINE, Envelopes
from server.api.json_reader import Field, Integer, String, object_schema, read_object
from server.api.openapi import describe
from server.api.routes import PUBLIC, inference_operations, inference_routes
from server.config import SamplingParameters
from server.engine.events import Event, Failed, Finished, FinishReason, Text
from server.errors import ClientError
from server.http.routing import Router
from tests.api.fake_engine import FakeEngine
from tests.http.conversation import converse
from tests.http.framing_cases import head

OPERATIONS = inference_operations(FakeEngine(), SamplingParameters(), EngineMetrics())
ROUTER = inference_routes(FakeEngine(), SamplingParameters(), EngineMetrics())
FIELDS = (Field("count", Integer(-5, 70), "How many."), Field("name", String(), "Whose."))


def document(router: Router = ROUTER) -> Any:
    """As a client gets it."""
    [client] = converse([head(first=b"GET /openapi.json HTTP/1.1")], router=router)
    assert client.statuses == [200]
    assert b"\r\nContent-Type: application/json\r\n" in client.transcript
    return json.loads(client.transcript.partition(b"\r\n\r\n")[2])


def test_it_is_served_as_openapi_3_1() -> None:
    served = document()
    assert served == describe(OPERATIONS, set())
    assert served["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(served).validate()


def test_every_route_is_in_it() -> None:
    described = {(method, path) for path, item in document()["paths"].items() for method in item}
    assert described == {
        (operation.route.method.lower(), operation.route.path) for operation in OPERATIONS
    }
    names = [item["operationId"] for path in document()["paths"].values() for item in path.values()]
    assert len(names) == len(set(names))


def test_with_keys_the_routes_that_ask_for_one_say_so() -> None:
    served = document(
        inference_routes(FakeEngine(), SamplingParameters(), EngineMetrics(), with_keys=True)
    )
    schemathesis.openapi.from_dict(served).validate()
    asking = {
        path
        for path, methods in served["paths"].items()
        for operation in methods.values()
        if "401" in operation["responses"] and operation["security"] == [{"key": []}]
    }
    assert asking == served["paths"].keys() - PUBLIC
    assert served["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_every_route_may_find_the_server_too_busy() -> None:
    for path, methods in document()["paths"].items():
        for operation in methods.values():
            assert "busy" in operation["responses"]["503"]["description"]
            assert ("would not" in operation["responses"]["503"]["description"]) == (
                path == "/ready"
            )
            assert "401" not in operation["responses"]


def test_a_route_with_a_body_says_what_the_body_holds() -> None:
    [path] = (operation.route.path for operation in OPERATIONS if operation.route.consumes)
    body = document()["paths"][path]["post"]["requestBody"]
    assert body["required"]
    assert body["content"]["application/json"]["schema"]["properties"] == {
        "max_tokens": {
            "type": "integer",
            "minimum": 1,
            "maximum": 2**31 - 1,
            "description": "New tokens at most; a full context ends the answer too.",
        },
        "raw_prompt": {
            "type": "string",
            "description": "The text to go on with, special tokens included; no chat template.",
        },
    }


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 80),
    st.integers(),
    # 1.0 is an integer for JSON Schema; that it is none for the reader has a test of its own.
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x != math.trunc(x)),
    st.text(),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
)
good = st.fixed_dictionaries({"count": st.integers(-9, 80), "name": st.text()})
bodies = st.one_of(
    values,
    good,
    good.map(lambda body: {**body, "more": 1}),
    st.dictionaries(st.sampled_from(["count", "name", "Count"]), values),
)


@given(bodies)
def test_the_reader_takes_what_the_schema_takes_and_nothing_else(body: object) -> None:
    try:
        read_object(json.dumps(body).encode(), FIELDS)
        taken = True
    except ClientError:
        taken = False
    assert taken == jsonschema_rs.validator_for(dict(object_schema(FIELDS))).is_valid(body)


@pytest.mark.parametrize(
    "event", [Text(" é"), Finished(FinishReason.STOP, 3, 1), Failed(503, "no room")], ids=repr
)
def test_every_line_is_as_the_document_says(event: Event) -> None:
    jsonschema_rs.validator_for(dict(LINE)).validate(json.loads(Envelopes("id").encode(event)))
