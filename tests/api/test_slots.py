"""The route's JSON, from what the engine says of its slots."""

import json
from typing import Any

import jsonschema_rs
import pytest

from server.api.engine_metrics import EngineMetrics
from server.api.routes import PUBLIC, inference_routes
from server.api.slots import SLOTS
from server.config import SamplingParameters
from server.engine.facts import Activity, Occupancy, SlotState
from tests.api.fake_engine import FakeEngine
from tests.http.conversation import converse
from tests.http.framing_cases import head


def shown(slots: int, *taken: SlotState) -> Any:
    engine = FakeEngine()
    engine.occupancy = Occupancy(slots, taken, waiting=2, kv_usage=0.0)
    router = inference_routes(engine, SamplingParameters(), EngineMetrics())
    [client] = converse([head(first=b"GET /api/v1/slots HTTP/1.1")], router=router)
    assert client.statuses == [200]
    body = json.loads(client.transcript.partition(b"\r\n\r\n")[2])
    jsonschema_rs.validator_for(dict(SLOTS.schema)).validate(body)
    return body


@pytest.mark.parametrize("activity", Activity)
def test_taken_slots_come_before_idle_ones(activity: Activity) -> None:
    assert shown(3, SlotState("abc", activity, 20, 18, 10, 5)) == {
        "slots": [
            {
                "activity": activity.value,
                "request_id": "abc",
                "prompt_tokens": 20,
                "read_tokens": 18,
                "reused_tokens": 10,
                "new_tokens": 5,
            },
            {"activity": "idle"},
            {"activity": "idle"},
        ],
        "waiting": 2,
    }


def test_there_are_none_while_the_model_is_loaded() -> None:
    assert shown(0) == {"slots": [], "waiting": 2}


def test_it_wants_a_key_where_there_are_keys() -> None:
    assert "/api/v1/slots" not in PUBLIC
