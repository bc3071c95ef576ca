"""GET /metrics: the engine's figures for Prometheus. Knows no figure by name."""

from dataclasses import dataclass

from server.api.engine_metrics import EngineMetrics
from server.api.generation import Generator
from server.api.operation import Answer
from server.http.exchange import Exchange
from server.http.messages import Response
from server.metrics import CONTENT_TYPE, exposition

FIGURES = Answer("text/plain", {"type": "string"}, "Prometheus' text format, version 0.0.4.")


@dataclass(frozen=True, slots=True)
class Metrics:
    """The route's handler."""

    engine: Generator
    metrics: EngineMetrics

    async def __call__(self, exchange: Exchange) -> None:
        """Answer with the current figures."""
        text = exposition(self.metrics.families(self.engine.occupancy))
        headers = ((b"Content-Type", CONTENT_TYPE), (b"Cache-Control", b"no-store"))
        await exchange.respond(Response(200, text.encode(), headers))
