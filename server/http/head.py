"""Every rule about a request's head, sans-IO: bytes of a head to a `RequestHead`, or a `Refusal`.

h11 parses leniently what RFC 9110 and 9112 forbid and what two parsers could read differently
(obsolete folding, bare LF, control characters, several lengths). So heads are read and judged here,
line by line and in the order of arrival, and h11 gets only heads that passed: the same bytes get
the same answer however they were cut into packets. Knows no h11, no socket and no body.
"""

import re

from server.config import Limits
from server.http.fields import TOKEN, TOKEN_CHARACTER, FieldSection, take_line
from server.http.messages import Headers, RequestHead
from server.http.refusal import Refusal

_REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])\r\n" % TOKEN)
_CONTENT_LENGTH = re.compile(rb"0|[1-9][0-9]*")

# RFC 3986, section 3: what may stand in a path and in a query.
_PATH = rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*"
_QUERY = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*"
_TARGET = re.compile(
    rb"(?:(?i:https?)://(?P<authority>[^/?#]+))?(?P<path>%b)?(?:\?(?P<query>%b))?" % (_PATH, _QUERY)
)
# No comma, although RFC 3986 allows it in a name: a list of hosts must not pass for one.
_HOST = re.compile(
    rb"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+))"
    rb"(?::[0-9]{0,5})?"
)
_LONG_METHOD = re.compile(rb"%b{33}" % TOKEN_CHARACTER)
_REQUEST_LINE_OVERHEAD = 64
"""Bytes of a request line besides its target; the longest method that is served has seven."""
_LENGTH_DIGITS = 18
_SINGLE = frozenset(
    {
        b"access-control-request-method",
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"origin",
    }
)
"""Fields that the server acts on and that have one value; a repeated one is refused."""


class HeadReader:
    """Reads one request's head off the front of a buffer, in as many pieces as it comes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._request_line: tuple[bytes, bytes, bytes] | None = None
        self._fields = FieldSection(limits)
        self._skipped_empty_line = False
        self._raw = bytearray()

    @property
    def method(self) -> str:
        """The method, once the request line is known to be well formed; empty before."""
        return self._request_line[0].decode("ascii") if self._request_line else ""

    @property
    def raw(self) -> bytes:
        """The head as it came, from the request line to the empty line."""
        return bytes(self._raw)

    def read(self, buffer: bytearray) -> RequestHead | None:
        """Take complete lines off `buffer`; return the head once it is whole, None until then.

        Raises `Refusal` at the first line that breaks a rule.
        """
        while self._request_line is None:
            # No method begins like this, but a TLS handshake does, perhaps without any line end.
            if buffer and buffer[0] <= 0x20 and buffer[0] != 0x0D:
                raise Refusal(400, "malformed request line")
            if _LONG_METHOD.match(buffer):
                raise Refusal(501, "the method is not implemented")
            line = take_line(buffer, self._check_first_length)
            if line is None:
                return None
            self._accept_first(line)
        while (line := take_line(buffer, self._fields.check_length)) is not None:
            self._raw += line
            if self._fields.accept(line):
                return _judge(self._request_line, self._fields.headers, self._limits)
        return None

    def _check_first_length(self, length: int) -> None:
        if length > self._limits.target_bytes + _REQUEST_LINE_OVERHEAD:
            raise Refusal(414, "the request target is too long")

    def _accept_first(self, line: bytes) -> None:
        # RFC 9112, section 2.2: ignore an empty line before the request line. One is enough for the
        # old clients that send it after a body.
        if line == b"\r\n" and not self._skipped_empty_line:
            self._skipped_empty_line = True
            return
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise Refusal(400, "malformed request line")
        method, target, version = match.groups()
        self._request_line = (method, target, version)
        if version not in (b"1.0", b"1.1"):
            raise Refusal(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        if len(target) > self._limits.target_bytes:
            raise Refusal(414, "the request target is too long")
        self._raw += line


def _judge(line: tuple[bytes, bytes, bytes], headers: Headers, limits: Limits) -> RequestHead:
    """Apply the rules that need the whole head."""
    method, target, version = line
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in fields and name in _SINGLE:
            raise Refusal(400, f"the field {name.decode()} is repeated")
        fields[name] = value
    host = fields.get(b"host")
    if host is None and version == b"1.1":
        raise Refusal(400, "the field host is missing")
    authority, path, query = _split_target(method, target)
    # RFC 9112, section 3.2.2 lets the target win over Host; where they differ, parsers may too.
    if authority and host is not None and authority.lower() != host.lower():
        raise Refusal(400, "the request target and the field host name different hosts")
    return RequestHead(
        method=method.decode("ascii"),
        path=path,
        query=query,
        version=version.decode("ascii"),
        host=_host_name(authority if host is None else host),
        headers=headers,
        content_length=_content_length(headers, fields.get(b"content-length"), version, limits),
        expects_continue=_expects_continue(headers, version),
    )


def _split_target(method: bytes, target: bytes) -> tuple[bytes | None, str, str]:
    """Authority, path and query of a request target (RFC 9112, section 3.2)."""
    if method == b"CONNECT":  # its target is an authority, and h11 would wait for a tunnel
        raise Refusal(501, "the method CONNECT is not implemented")
    if target == b"*" and method == b"OPTIONS":
        return None, "*", ""
    match = _TARGET.fullmatch(target)
    if match is None or not (match["authority"] or match["path"]):
        raise Refusal(400, "malformed request target")
    path, query = match["path"] or b"/", match["query"] or b""
    return match["authority"], path.decode("ascii"), query.decode("ascii")


def _host_name(host: bytes | None) -> str:
    """Return the name or address in a Host field; empty if there is no field."""
    if host is None:
        return ""
    match = _HOST.fullmatch(host)
    if match is None:
        raise Refusal(400, "the field host is malformed")
    return (match["address"] or match["name"]).decode("ascii").lower()


def _content_length(
    headers: Headers, declared: bytes | None, version: bytes, limits: Limits
) -> int | None:
    """The body's length, None when it is chunked (RFC 9112, section 6.3)."""
    codings = [value for key, value in headers if key == b"transfer-encoding"]
    if codings:
        if declared is not None:
            raise Refusal(400, "both transfer-encoding and content-length are given")
        if version == b"1.0":
            raise Refusal(400, "transfer-encoding is not part of HTTP/1.0")
        _check_codings(codings)
        return None
    if declared is None:
        return 0
    if not _CONTENT_LENGTH.fullmatch(declared):
        raise Refusal(400, "the field content-length is malformed")
    if len(declared) > _LENGTH_DIGITS or int(declared) > limits.body_bytes:
        raise Refusal(413, "the body is too long")
    return int(declared)


def _check_codings(fields: list[bytes]) -> None:
    """Only `chunked`, once, in one field, is understood."""
    names = [name.strip(b" \t").lower() for name in b",".join(fields).split(b",")]
    if names == [b"chunked"]:
        return
    if len(fields) > 1 or names[-1] != b"chunked" or names.count(b"chunked") > 1:
        raise Refusal(400, "the field transfer-encoding leaves the body's length open")
    raise Refusal(501, "only the transfer coding chunked is implemented")


def _expects_continue(headers: Headers, version: bytes) -> bool:
    """Whether to send `100 Continue`; RFC 9110, section 10.1.1 has HTTP/1.0 ignore it."""
    expectations = [value.lower() for key, value in headers if key == b"expect"]
    if any(value != b"100-continue" for value in expectations):
        raise Refusal(417, "only the expectation 100-continue is met")
    return bool(expectations) and version == b"1.1"
