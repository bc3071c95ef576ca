"""Every rule about the chunked transfer coding (RFC 9112, section 7.1), sans-IO.

h11 accepts extensions with control characters, a bare CR or no name, and takes 4 us for a chunk of
one byte. So chunks are read here. Knows no h11, no socket.
"""

import re
from enum import Enum

from server.config import Limits
from server.http.fields import TOKEN, FieldSection, take_line
from server.http.refusal import Refusal

_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (TOKEN, TOKEN, _QUOTED)
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:%b)*\r\n" % _EXTENSION)
_SIZE_LINE_BYTES = 256
_FRAMING_FIELDS = frozenset({b"content-length", b"host", b"transfer-encoding"})


class _Expecting(Enum):
    SIZE = "size line"
    DATA = "data"
    DATA_END = "line end after data"
    TRAILERS = "trailer section"
    NOTHING = "nothing"


class ChunkedReader:
    """Reads one chunked body off the front of a buffer, in as many pieces as it comes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._expecting = _Expecting.SIZE
        self._chunk_left = 0
        self._body_left = limits.body_bytes
        self._chunks_left = limits.body_chunks
        self._trailers = FieldSection(limits)

    @property
    def complete(self) -> bool:
        """Whether the last chunk and the trailer section have been read."""
        return self._expecting is _Expecting.NOTHING

    def read(self, buffer: bytearray) -> bytes:
        """Take all that has arrived of the body off `buffer`; return its content, in one piece.

        Raises `Refusal` at the first byte that breaks a rule.
        """
        pieces = []
        while buffer and not self.complete:
            if self._expecting is _Expecting.SIZE:
                pieces += self._take_whole_chunks(buffer)
            if self._expecting is _Expecting.DATA:
                pieces.append(self._take_data(buffer))
            elif self._expecting is _Expecting.DATA_END:
                if not self._take_data_end(buffer):
                    break
            elif not self._take_line(buffer):
                break
        return b"".join(pieces)

    def _take_whole_chunks(self, buffer: bytearray) -> list[bytes]:
        """Take the chunks at the front of `buffer` that are whole and break no rule; return their
        data. Stops at the first other chunk. One loop: state by state, tiny chunks would take four
        times as long."""
        data = bytes(buffer)
        pieces: list[bytes] = []
        at = 0
        while (line := _SIZE_LINE.match(data, at)) and len(pieces) < self._chunks_left:
            start, size = line.end(), int(line[1], 16)
            end = start + size
            if not 0 < size <= self._body_left or not data.startswith(b"\r\n", end):
                break
            if start - at > _SIZE_LINE_BYTES:
                break
            pieces.append(data[start:end])
            self._body_left -= size
            at = end + 2
        self._chunks_left -= len(pieces)
        del buffer[:at]
        return pieces

    def _take_data(self, buffer: bytearray) -> bytes:
        data = bytes(buffer[: self._chunk_left])
        del buffer[: self._chunk_left]
        self._chunk_left -= len(data)
        if not self._chunk_left:
            self._expecting = _Expecting.DATA_END
        return data

    def _take_data_end(self, buffer: bytearray) -> bool:
        if not b"\r\n".startswith(buffer[:2]):
            raise Refusal(400, "a chunk is longer than its size says")
        if len(buffer) < 2:
            return False
        del buffer[:2]
        self._expecting = _Expecting.SIZE
        return True

    def _take_line(self, buffer: bytearray) -> bool:
        if self._expecting is _Expecting.SIZE:
            line = take_line(buffer, _check_size_line_length)
            if line is not None:
                self._accept_size(line)
        else:
            line = take_line(buffer, self._trailers.check_length)
            if line is not None and self._trailers.accept(line):
                self._finish()
        return line is not None

    def _accept_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise Refusal(400, "malformed chunk size line")
        self._chunk_left = int(match[1], 16)
        if not self._chunk_left:
            self._expecting = _Expecting.TRAILERS
            return
        self._body_left -= self._chunk_left
        self._chunks_left -= 1
        if self._body_left < 0:
            raise Refusal(413, "the body is too long")
        if self._chunks_left < 0:
            raise Refusal(413, "the body has too many chunks")
        self._expecting = _Expecting.DATA

    def _finish(self) -> None:
        # Trailers are read and discarded (RFC 9110, section 6.5.1); one about framing is an attempt
        # to have the message read in two ways.
        if any(name in _FRAMING_FIELDS for name, _ in self._trailers.headers):
            raise Refusal(400, "a trailer field must not be about framing or routing")
        self._expecting = _Expecting.NOTHING


def _check_size_line_length(length: int) -> None:
    # RFC 9112, section 7.1.1: limit the total length of extensions.
    if length > _SIZE_LINE_BYTES:
        raise Refusal(400, "a chunk's size line is too long")
