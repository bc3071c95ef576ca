"""Requests and responses as values. Knows no socket, no h11, no handler."""

from dataclasses import dataclass

Headers = tuple[tuple[bytes, bytes], ...]
"""Names and values in order. Names of requests are in lower case, those of responses as sent."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request line and header section that passed every rule of `head.py`."""

    method: str
    path: str
    """As sent: percent-encoded and not normalised, so that no two parsers can disagree about it."""
    query: str
    version: str
    """1.1 or 1.0."""
    host: str
    """The host that the request is addressed to: a name or an address without port and brackets, in
    lower case; empty where HTTP/1.0 leaves it out."""
    headers: Headers
    content_length: int | None
    """Length of the body; None for a chunked body."""
    expects_continue: bool
    """The client waits for `100 Continue` before it sends the body."""

    def field(self, name: bytes) -> bytes | None:
        """Return the value of the field `name` (lower case); the first one if it is repeated."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request, as a handler gets it."""

    id: str
    """21 characters of A-Za-z0-9_-, drawn for this request; logs and answers name it."""
    head: RequestHead
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; `Date`, `Content-Length` and `Connection` are added when it is sent."""

    status: int
    body: bytes = b""
    headers: Headers = ()


def text(status: int, sentence: str, headers: Headers = ()) -> Response:
    """Return a sentence as `text/plain`.

    All 4xx and 5xx answers of the server have this one form, as Paddler's do: it suits every layer,
    also those that know no JSON, and reads well in a terminal. The in-band Error envelope belongs
    to streams.
    """
    return plain(status, f"{sentence}\n".encode(), headers)


def plain(status: int, body: bytes, headers: Headers = ()) -> Response:
    """Return exactly `body`, as `text/plain`."""
    return Response(status, body, ((b"Content-Type", b"text/plain; charset=utf-8"), *headers))
