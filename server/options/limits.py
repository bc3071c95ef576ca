"""The flags about what one client may ask, and how long it may take."""

from server.config import Limits
from server.options.flag import Flag, Group
from server.options.timeout import timeout
from server.options.values import integer, size, size_text

_DEFAULT = Limits()


def _size(name: str, text: str, default: int, low: int) -> Flag[int]:
    return Flag(name, "SIZE", size(low, 2**30), text, size_text(default))


def _count(name: str, text: str, default: int) -> Flag[int]:
    return Flag(name, "N", integer(1, 2**20), text, str(default))


LIMITS = Group(
    "limits",
    "What one client may ask. Sizes are bytes, or end in KiB, MiB or GiB.",
    Limits,
    {
        "target_bytes": _size(
            "max-target-size", "longest request target; 414 beyond", _DEFAULT.target_bytes, 64
        ),
        "header_bytes": _size(
            "max-header-size", "all header lines together; 431 beyond", _DEFAULT.header_bytes, 256
        ),
        "header_fields": _count(
            "max-header-fields", "header fields; 431 beyond", _DEFAULT.header_fields
        ),
        "body_bytes": _size("max-body-size", "largest body; 413 beyond", _DEFAULT.body_bytes, 1),
        "body_chunks": _count(
            "max-body-chunks", "chunks of a chunked body; 413 beyond", _DEFAULT.body_chunks
        ),
        "head_seconds": timeout(
            "head-timeout",
            "for a request's head, from its first byte; 408 after it",
            _DEFAULT.head_seconds,
        ),
        "body_seconds": timeout(
            "body-timeout", "for a request's body; 408 after it", _DEFAULT.body_seconds
        ),
        "idle_seconds": timeout(
            "idle-timeout", "for the first byte of the next request", _DEFAULT.idle_seconds
        ),
        "write_seconds": timeout(
            "write-timeout", "for one write to a client that does not read", _DEFAULT.write_seconds
        ),
        "connections": _count(
            "max-connections",
            "clients at once; one more closes the connection that is idle longest, or gets 503",
            _DEFAULT.connections,
        ),
    },
)
