"""Which web pages may use the server from a browser (the Fetch standard's CORS protocol).

An origin is allowed if it is equal to a configured one, character by character. A foreign origin is
never reflected: its answers have no `Access-Control-` field, and so its browser withholds them.
Knows no route and no key.
"""

from collections.abc import Iterable

from server.http.messages import Headers, RequestHead, Response, text
from server.http.routing import Route, always

# As Paddler has them.
_METHODS = (b"DELETE", b"GET", b"POST", b"PUT", b"OPTIONS")
_FIELDS = (b"Accept", b"Authorization", b"Content-Type")
_MAX_AGE = b"3600"
_ASKED_METHOD = b"access-control-request-method"
_ASKED_FIELDS = b"access-control-request-headers"


class Cors:
    """The origins that are allowed; perhaps none."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.encode("ascii") for origin in origins)

    def fields(self, head: RequestHead) -> Headers:
        """Return the fields about origins for every response to this request."""
        if not self._origins:
            return ()
        vary = (b"Vary", b"Origin")
        origin = head.field(b"origin")
        if origin not in self._origins:
            return (vary,)
        return ((b"Access-Control-Allow-Origin", origin), vary)

    def preflight(self, head: RequestHead) -> Route | None:
        """Return the route that answers a preflight request; None if this request is none.

        It needs no key: a browser sends none with a preflight.
        """
        asked = head.field(_ASKED_METHOD)
        if not self._origins or head.method != "OPTIONS" or asked is None:
            return None
        return always("OPTIONS", head.path, self._judge(head, asked))

    def _judge(self, head: RequestHead, method: bytes) -> Response:
        asked = (head.field(_ASKED_FIELDS) or b"").lower().split(b",")
        known = {b"", *(field.lower() for field in _FIELDS)}
        if head.field(b"origin") not in self._origins:
            return text(400, "requests from this origin are not allowed")
        if method not in _METHODS:
            return text(400, "the field access-control-request-method names another method")
        if not known.issuperset(field.strip(b" \t") for field in asked):
            return text(400, "the field access-control-request-headers names another field")
        return Response(
            200,
            headers=(
                (b"Access-Control-Allow-Methods", b", ".join(_METHODS)),
                (b"Access-Control-Allow-Headers", b", ".join(_FIELDS)),
                (b"Access-Control-Max-Age", _MAX_AGE),
            ),
        )
