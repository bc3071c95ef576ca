"""Which handler answers which request. Knows no h11 and no socket; reads only heads, so that a
request is refused before its body is sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from server.http.exchange import Exchange, Handler
from server.http.messages import Headers, RequestHead, Response
from server.http.refusal import Refusal

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
"""Methods that the server knows; any other one is 501 on every path."""


@dataclass(frozen=True, slots=True)
class Route:
    """`method` on exactly `path` is answered by `handler`; GET answers HEAD too."""

    method: str
    path: str
    handler: Handler
    consumes: bytes | None = None
    """The one media type that a body may have; None for a route that ignores bodies."""
    immediate: bool = False
    """The handler waits for nothing, so its client need not be watched meanwhile, which is a
    quarter of the work of a request as small as a health check."""
    headers: Headers = ()
    """Fields that every response on this route has, refusals of the body included."""


def always(method: str, path: str, response: Response) -> Route:
    """Return a route that gives every request the same response."""

    async def tell(exchange: Exchange) -> None:
        await exchange.respond(response)

    return Route(method, path, tell, immediate=True)


class Finder(Protocol):
    """Finds the route that answers a request, or refuses it by its head."""

    def find(self, head: RequestHead) -> Route:
        """Raises `Refusal`."""


class Router:
    """All routes of a listener."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._paths: dict[str, dict[str, Route]] = {}
        for route in routes:
            self._paths.setdefault(route.path, {})[route.method] = route

    def find(self, head: RequestHead) -> Route:
        """Return the route of a request. Raises `Refusal` (404, 405, 415, 501)."""
        if head.method not in _METHODS:
            raise Refusal(501, "the method is not implemented")
        if head.path == "*":
            return _options(head, chain.from_iterable(self._paths.values()))
        routes = self._paths.get(head.path)
        if routes is None:
            raise Refusal(404, "there is nothing at this path")
        if head.method == "OPTIONS":
            return _options(head, routes)
        route = routes.get("GET" if head.method == "HEAD" else head.method)
        if route is None:
            allow = _allowed(routes)
            raise Refusal(405, f"this path answers to {allow}", ((b"Allow", allow.encode()),))
        _check_media_type(head, route)
        return route


def _allowed(methods: Iterable[str]) -> str:
    """A value for `Allow`."""
    allowed = {*methods, "OPTIONS"}
    return ", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set())))


def _check_media_type(head: RequestHead, route: Route) -> None:
    """RFC 9110, section 15.5.16. Browsers send JSON to a foreign origin only after a preflight."""
    if head.field(b"content-encoding") is not None:
        accept = (b"Accept-Encoding", b"identity")
        raise Refusal(415, "a body with a content-encoding is not accepted", (accept,))
    if route.consumes is None:
        return
    media_type = (head.field(b"content-type") or b"").partition(b";")[0]
    if media_type.strip(b" \t").lower() != route.consumes:
        accept = (b"Accept", route.consumes)
        raise Refusal(415, f"the field content-type must be {route.consumes.decode()}", (accept,))


def _options(head: RequestHead, methods: Iterable[str]) -> Route:
    response = Response(204, headers=((b"Allow", _allowed(methods).encode()),))
    return always("OPTIONS", head.path, response)
