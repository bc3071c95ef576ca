"""The table of routes of the inference listener."""

from server.api.continue_from_raw_prompt import FIELDS, PATH, ContinueFromRawPrompt
from server.api.engine_metrics import EngineMetrics
from server.api.generation import STREAM, Generator
from server.api.health import OK, health
from server.api.metrics import FIGURES, Metrics
from server.api.openapi import OpenApi
from server.api.operation import Operation
from server.api.ready import READY, Ready
from server.api.slots import SLOTS, Slots
from server.config import SamplingParameters
from server.http.routing import Route, Router

PUBLIC = frozenset({"/health", "/ready"})
"""Paths that need no key: supervisors and load balancers look at them."""


def inference_operations(
    engine: Generator, sampling: SamplingParameters, metrics: EngineMetrics
) -> list[Operation]:
    """Return every route that the OpenAPI document describes. `sampling` holds for all requests;
    `metrics` are those that take the engine's facts."""
    return [
        Operation(
            Route("GET", "/health", health, immediate=True),
            "Whether the server's event loop lives.",
            OK,
        ),
        Operation(
            Route("GET", "/ready", Ready(engine), immediate=True),
            "Whether a request sent now would be generated.",
            READY,
            unavailable="It would not; a sentence says why.",
        ),
        Operation(
            Route("GET", "/metrics", Metrics(engine, metrics), immediate=True),
            "What the engine does and how long it takes, in figures.",
            FIGURES,
        ),
        Operation(
            Route("GET", "/api/v1/slots", Slots(engine), immediate=True),
            "What each slot does.",
            SLOTS,
        ),
        Operation(
            Route(
                "POST",
                PATH,
                ContinueFromRawPrompt(engine, sampling),
                consumes=b"application/json",
            ),
            "Continue a text.",
            STREAM,
            FIELDS,
        ),
    ]


def inference_routes(
    engine: Generator,
    sampling: SamplingParameters,
    metrics: EngineMetrics,
    *,
    with_keys: bool = False,
) -> Router:
    """Return every route and the OpenAPI document. It says whether requests must show a key."""
    operations = inference_operations(engine, sampling, metrics)
    paths = {operation.route.path for operation in operations}
    keyed = paths - PUBLIC if with_keys else set()
    document = Route("GET", "/openapi.json", OpenApi.of(operations, keyed), immediate=True)
    return Router([*(operation.route for operation in operations), document])
