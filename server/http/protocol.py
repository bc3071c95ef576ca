"""HTTP/1.1 of one connection, sans-IO: the one door to h11.

Bytes in, requests out; responses in, bytes out. What arrives is judged by `head.py` and
`chunked.py`; h11 gets only heads that passed, keeps the connection's state (who may send what, when
it must close) and writes. Bodies and later requests stay in a buffer here, never in h11's. Knows
no socket and no clock but `Date`.
"""

import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import h11

from server.config import Limits
from server.http.chunked import ChunkedReader
from server.http.head import HeadReader
from server.http.messages import Headers, RequestHead, Response, text
from server.http.refusal import Refusal

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_ABOUT_CONNECTION = frozenset({b"connection", b"expect", b"upgrade"})
_IN_CHUNKS = b"\r\nTransfer-Encoding: chunked\r\n"
"""As h11 writes it."""


class Protocol:
    """The server's side of one connection."""

    def __init__(self, limits: Limits, draining: Callable[[], bool]) -> None:
        """`draining` returns whether each response is to be the last one of the connection."""
        self._limits = limits
        self._draining = draining
        self._buffer = bytearray()
        self._connection = h11.Connection(h11.SERVER)
        self._begin()

    def _begin(self) -> None:
        self._head_reader = HeadReader(self._limits)
        self._chunked: ChunkedReader | None = None
        self._content_left = 0
        self._head: bytes | None = None
        """The request's head as it came, until h11 gets it."""
        self.request_complete = False
        """Whether the current request was read to its end."""
        self._in_chunks = False
        """Whether the current response's body is being sent in the chunked coding."""
        self.route_headers: Headers = ()
        """Fields that the current response has besides its own."""

    @property
    def buffered(self) -> int:
        """How many bytes have arrived and were not taken yet."""
        return len(self._buffer)

    @property
    def request_begun(self) -> bool:
        """Whether a part of the current request has arrived; an empty line before it is no part."""
        return bytes(self._buffer[:2]) not in (b"", b"\r") or self._head_reader.method != ""

    @property
    def response_begun(self) -> bool:
        """Whether the answer to the current request has begun."""
        return self._connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    @property
    def must_close(self) -> bool:
        """Whether a whole response was sent that is the connection's last one."""
        return self._connection.our_state is h11.MUST_CLOSE

    def receive(self, data: bytes | bytearray) -> None:
        """Take in bytes from the client."""
        self._buffer += data

    def next_head(self) -> RequestHead | None:
        """Return the next request's head; None while more bytes are needed. Raises `Refusal`."""
        head = self._head_reader.read(self._buffer)
        if head is None:
            return None
        if head.content_length is None:
            self._chunked = ChunkedReader(self._limits)
        else:
            self._content_left = head.content_length
        self.request_complete = head.content_length == 0
        self._head = self._head_reader.raw
        if not _is_plain(head):
            self._follow_head()
        return head

    def _follow_head(self) -> None:
        """Give h11 the head of the request that it answers; it never sees the body."""
        if self._head is None:
            return
        self._connection.receive_data(self._head)
        self._head = None
        try:
            self._connection.next_event()
        except h11.RemoteProtocolError as error:  # stricter than we are, somewhere
            raise Refusal(error.error_status_hint, "malformed request") from error

    def next_content(self) -> bytes:
        """Return what has arrived of the body, possibly nothing; sets `request_complete`.

        Raises `Refusal`.
        """
        if self._chunked is not None:
            content = self._chunked.read(self._buffer)
            self.request_complete = self._chunked.complete
            return content
        content = bytes(self._buffer[: self._content_left])
        del self._buffer[: self._content_left]
        self._content_left -= len(content)
        self.request_complete = not self._content_left
        return content

    def proceed(self) -> bytes:
        """Return the bytes of `100 Continue`."""
        return self._send(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))

    def start(self, status: int, headers: Headers) -> bytes:
        """Return the head of a response whose body is chunked."""
        self._follow_head()
        start = self._start(status, headers)
        self._in_chunks = self._head_reader.method != "HEAD" and _IN_CHUNKS in start
        return start

    def _start(self, status: int, headers: Headers) -> bytes:
        fields = [(b"Date", _date(int(time.time()))), *headers, *self.route_headers]
        # The rest of an incomplete request could not be told from the next one.
        if not self.request_complete or self._draining():
            fields.append((b"Connection", b"close"))
        reason = _REASONS.get(status, "")
        return self._send(h11.Response(status_code=status, headers=fields, reason=reason))

    def chunks(self, pieces: Sequence[bytes]) -> bytes:
        """Return a chunk for each piece of the body after `start`; nothing in answer to HEAD, and
        plain bytes for HTTP/1.0."""
        if not self._in_chunks:
            return self._content(b"".join(pieces))
        # Within a chunked body h11 decides nothing: it would add the same bytes for a token, in
        # several times the time.
        # An empty chunk would be the last one.
        return b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece])

    def _content(self, data: bytes) -> bytes:
        if self._head_reader.method == "HEAD":
            return b""
        return self._send(h11.Data(data=data))

    def end(self) -> bytes:
        """Return the end of a response."""
        self._in_chunks = False
        return self._send(h11.EndOfMessage())

    def whole(self, response: Response) -> bytes:
        """Return a response from its status line to its end."""
        start = self._start(response.status, _with_length(response))
        return start + self._content(response.body) + self.end()

    def refusal(self, refusal: Refusal) -> bytes:
        """Return the answer to a request that reaches no handler."""
        response = text(refusal.status, refusal.sentence, refusal.headers)
        if self._head_reader.method == "HEAD" and self._connection.their_state is h11.IDLE:
            # h11 was not given the HEAD and expects the body that must not be sent. The connection
            # is over after this response.
            return self._start(response.status, _with_length(response))
        return self.whole(response)

    def _send(self, event: h11.Event) -> bytes:
        return self._connection.send(event) or b""

    def start_next_cycle(self) -> bool:
        """Get ready for the next request; False when the connection must be closed instead."""
        if self._connection.our_state is not h11.DONE or not self.request_complete:
            return False
        self._connection = h11.Connection(h11.SERVER)
        self._begin()
        return True


def _is_plain(head: RequestHead) -> bool:
    """Whether h11 has nothing to decide by this head.

    h11 gets such a head only if the answer is a stream: parsing again what `head.py` has judged is
    a sixth of the work of a health check.
    """
    return (
        head.version == "1.1"
        and head.method != "HEAD"
        and not any(name in _ABOUT_CONNECTION for name, _ in head.headers)
    )


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode("ascii")


def _with_length(response: Response) -> Headers:
    if response.status == HTTPStatus.NO_CONTENT:  # RFC 9110, section 8.6
        return response.headers
    return (*response.headers, (b"Content-Length", b"%d" % len(response.body)))
