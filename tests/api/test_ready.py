"""Readiness: what a balancer asks before it sends a request."""

import pytest

from server.api.engine_metrics import EngineMetrics
from server.api.routes import inference_routes
from server.config import SamplingParameters
from server.engine.condition import Condition
from tests.api.fake_engine import FakeEngine
from tests.http.conversation import ScriptedClient, converse
from tests.http.framing_cases import head


def ask(condition: Condition, path: bytes) -> ScriptedClient:
    engine = FakeEngine()
    engine.condition = condition
    router = inference_routes(engine, SamplingParameters(), EngineMetrics())
    [client] = converse([head(first=b"GET %b HTTP/1.1" % path)], router=router)
    return client


def test_it_is_ready() -> None:
    client = ask(Condition.READY, b"/ready")
    assert client.statuses == [200]
    assert client.transcript.endswith(b"\r\n\r\nREADY")


@pytest.mark.parametrize("condition", [each for each in Condition if each is not Condition.READY])
def test_it_says_why_it_is_not(condition: Condition) -> None:
    client = ask(condition, b"/ready")
    assert client.statuses == [503]
    assert b"\r\nRetry-After: 5\r\n" in client.transcript
    assert client.transcript.endswith(f"\r\n\r\n{condition.value}\n".encode())


@pytest.mark.parametrize("condition", Condition)
def test_liveness_knows_nothing_of_it(condition: Condition) -> None:
    assert ask(condition, b"/health").statuses == [200]
