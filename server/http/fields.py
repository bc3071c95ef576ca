"""Lines and field lines (RFC 9112, sections 2.2 and 5), sans-IO.

Heads and trailers consist of these. Knows no request line, no body and no h11.
"""

import re
from collections.abc import Callable

from server.config import Limits
from server.http.messages import Headers
from server.http.refusal import Refusal

TOKEN_CHARACTER = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN = TOKEN_CHARACTER + rb"+"
"""RFC 9110, section 5.6.2."""
_FIELD_LINE = re.compile(rb"(%b):([\t\x20-\x7e\x80-\xff]*)\r\n" % TOKEN)


def take_line(buffer: bytearray, check_length: Callable[[int], None]) -> bytes | None:
    """Take the first line off `buffer`, with its LF; None while it is incomplete.

    `check_length` gets the number of its bytes so far and raises if they are too many. It is called
    before any other check, so that a line that is too long gets the same answer however it arrives.
    """
    end = buffer.find(b"\n") + 1
    check_length(end or len(buffer))
    if not end:
        return None
    line = bytes(buffer[:end])
    del buffer[:end]
    return line


class FieldSection:
    """A header or trailer section, judged line by line."""

    def __init__(self, limits: Limits) -> None:
        self._bytes_left = limits.header_bytes
        self._fields_left = limits.header_fields
        self._fields: list[tuple[bytes, bytes]] = []

    @property
    def headers(self) -> Headers:
        """The fields so far."""
        return tuple(self._fields)

    def check_length(self, length: int) -> None:
        """Refuse a line of `length` bytes, complete or not, that the section has no room for."""
        if length > self._bytes_left:
            raise Refusal(431, "the header section is too long")

    def accept(self, line: bytes) -> bool:
        """Take one line; True when it was the empty one that ends the section."""
        self._bytes_left -= len(line)
        if line == b"\r\n":
            return True
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise Refusal(400, _what_is_wrong_with(line))
        if not self._fields_left:
            raise Refusal(431, "too many header fields")
        self._fields_left -= 1
        self._fields.append((match[1].lower(), match[2].strip(b" \t")))
        return False


def _what_is_wrong_with(line: bytes) -> str:
    """Return the reason for refusing a field line, without quoting a byte of it."""
    if not line.endswith(b"\r\n"):
        return "a header line ends with LF and not with CRLF"
    if line[0] in b" \t":
        return "a header field is continued on a second line"
    return "malformed header field"
