"""GET /health: whether the event loop lives. Knows nothing of the engine, on purpose."""

from server.api.operation import Answer
from server.http.exchange import Exchange
from server.http.messages import plain

OK = Answer("text/plain", {"const": "OK"}, "It lives.")


async def health(exchange: Exchange) -> None:
    """Answer exactly `OK`, which Paddler's clients look for."""
    await exchange.respond(plain(200, b"OK"))
