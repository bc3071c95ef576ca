"""GET /ready: whether a request sent now would be generated. Knows the engine's condition only."""

from dataclasses import dataclass

from server.api.generation import Generator
from server.api.operation import Answer
from server.engine.condition import Condition
from server.http.exchange import Exchange
from server.http.messages import plain, text

READY = Answer("text/plain", {"const": "READY"}, "A request sent now would be generated.")
_RETRY_AFTER = ((b"Retry-After", b"5"),)


@dataclass(frozen=True, slots=True)
class Ready:
    """The route's handler."""

    engine: Generator

    async def __call__(self, exchange: Exchange) -> None:
        """Answer 200, or 503 with the reason."""
        condition = self.engine.condition
        if condition is not Condition.READY:
            await exchange.respond(text(503, condition.value, _RETRY_AFTER))
        else:
            await exchange.respond(plain(200, b"READY"))
