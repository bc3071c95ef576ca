"""The route's text, from the facts that the engine told."""

import pytest

from model_tools.bench.serve.prometheus import Metrics, parse
from server.api.engine_metrics import EngineMetrics
from server.api.routes import PUBLIC, inference_routes
from server.config import SamplingParameters
from server.engine.events import FinishReason
from server.engine.facts import (
    Activity,
    Fact,
    Occupancy,
    PrefillDone,
    RequestEnded,
    SlotState,
    StepKind,
    StepTaken,
)
from server.metrics import exposition
from tests.api.fake_engine import FakeEngine
from tests.http.conversation import converse
from tests.http.framing_cases import head

QUEUED = SlotState("id", Activity.QUEUE, 0, 0, 0, 0)


def scraped(*facts: Fact) -> tuple[str, Metrics]:
    """The answer, and the figures in it."""
    engine, metrics = FakeEngine(), EngineMetrics()
    engine.occupancy = Occupancy(slots=4, taken=3 * (QUEUED,), waiting=2, kv_usage=0.25)
    for fact in facts:
        metrics.take(fact)
    router = inference_routes(engine, SamplingParameters(), metrics)
    [client] = converse([head(first=b"GET /metrics HTTP/1.1")], router=router)
    assert client.statuses == [200]
    return client.transcript.decode(), parse(client.transcript.decode())


def test_it_is_prometheus_text() -> None:
    answer, _ = scraped()
    assert "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in answer
    assert answer.count("# HELP ") == answer.count("# TYPE ") == 22


def test_it_wants_a_key_where_there_are_keys() -> None:
    assert "/metrics" not in PUBLIC


def test_what_is_served_is_told_once_it_is_loaded() -> None:
    metrics = EngineMetrics()
    now = FakeEngine().occupancy
    assert "skiff_info" not in exposition(metrics.families(now))
    metrics.serving = {"model": 'a "model"', "device": "cpu"}
    assert 'skiff_info{model="a \\"model\\"",device="cpu"} 1\n' in exposition(metrics.families(now))


def test_how_full_it_is() -> None:
    _, figures = scraped()
    assert figures["skiff_num_requests_running"] == figures["paddler_slots_processing"] == 3
    assert figures["skiff_num_requests_waiting"] == figures["paddler_requests_buffered"] == 2
    assert figures["skiff_kv_cache_usage_ratio"] == 0.25
    assert figures["paddler_slots_total"] == 4


def test_what_steps_take() -> None:
    _, figures = scraped(
        StepTaken(StepKind.PROMPT, 2.0, 1.5, 1, {}),
        StepTaken(StepKind.DECODE, 0.25, 0.125, 5, {0.25: 4, 0.5: 1}),
        StepTaken(StepKind.DECODE, 0.25, 0.125, 5, {0.25: 5}),
    )
    assert figures["skiff_generation_tokens_total"] == 11
    assert figures["skiff_inter_token_latency_seconds_count"] == 10
    assert figures["skiff_inter_token_latency_seconds_sum"] == 0.25 * 9 + 0.5
    assert figures['skiff_engine_steps_total{step="decode"}'] == 2
    assert figures['skiff_engine_step_seconds_total{step="decode"}'] == 0.5
    assert figures['skiff_engine_runtime_seconds_total{step="decode"}'] == 0.25
    assert figures['skiff_engine_runtime_seconds_total{step="prompt"}'] == 1.5


def test_a_first_token() -> None:
    _, figures = scraped(PrefillDone(10, 4, 0.25, 0.5), PrefillDone(5, 0, 0.25, 0.5))
    assert figures["skiff_prompt_tokens_total"] == 15
    assert figures["skiff_prefix_cache_queries_total"] == 15
    assert figures["skiff_prefix_cache_hits_total"] == 4
    for name, seconds in (
        ("request_queue_time", 0.25),
        ("request_prefill_time", 0.5),
        ("time_to_first_token", 0.75),
    ):
        assert figures[f"skiff_{name}_seconds_sum"] == 2 * seconds
        assert figures[f"skiff_{name}_seconds_count"] == 2


@pytest.mark.parametrize("reason", FinishReason)
def test_an_end(reason: FinishReason) -> None:
    _, figures = scraped(RequestEnded("id", reason, 5, 0, 9, 0.25, 0.5, 1.0))
    assert figures[f'skiff_request_success_total{{finished_reason="{reason.value}"}}'] == 1
    assert figures["skiff_e2e_request_latency_seconds_sum"] == 1.75
    assert figures["skiff_request_decode_time_seconds_sum"] == 1


def test_other_ends() -> None:
    _, figures = scraped(*(RequestEnded("id", end) for end in (503, None, 400, 503, None)))
    assert figures['skiff_request_failures_total{code="400"}'] == 1
    assert figures['skiff_request_failures_total{code="503"}'] == 2
    assert figures["skiff_request_aborted_total"] == 2
    assert figures['skiff_request_success_total{finished_reason="stop"}'] == 0
    assert figures["skiff_e2e_request_latency_seconds_count"] == 0


def test_buckets_begin_at_half_a_millisecond() -> None:
    answer, _ = scraped(StepTaken(StepKind.DECODE, 1.0, 1.0, 1, {0.0004: 1}))
    buckets = [line for line in answer.splitlines() if "inter_token_latency_seconds_b" in line]
    assert buckets[0] == 'skiff_inter_token_latency_seconds_bucket{le="0.0005"} 1'
