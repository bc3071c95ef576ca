"""The table of routes of the inference listener."""

from server.api.continue_from_raw_prompt import ContinueFromRawPrompt
from server.api.generation import Generator
from server.api.health import health
from server.config import SamplingParameters
from server.http.routing import Route, Router


def inference_routes(engine: Generator, sampling: SamplingParameters) -> Router:
    """Every route, with `sampling` for requests that do not choose their own."""
    return Router(
        [
            Route("GET", "/health", health, immediate=True),
            Route(
                "POST",
                "/api/v1/continue_from_raw_prompt",
                ContinueFromRawPrompt(engine, sampling),
                consumes=b"application/json",
            ),
        ]
    )
