"""What one client may ask of the server. Knows no other module.

The defaults and what happens on breach are those of the documentation's table of limits; each phase
of a connection has a deadline of its own, and none spans a whole generation.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    target_bytes: int = 8 * 1024
    """Request target; 414 beyond."""
    header_bytes: int = 16 * 1024
    """All header lines, or all trailer lines, of one request; 431 beyond."""
    header_fields: int = 100
    """431 beyond."""
    body_bytes: int = 2 * 1024 * 1024
    """413 beyond, before reading where Content-Length tells."""
    body_chunks: int = 8 * 1024
    """Chunks of one chunked body, 413 beyond: tiny chunks cost far more than their bytes."""
    read_ahead_bytes: int = 4 * 1024
    """Bytes of later requests that are kept while a request is being answered."""
    idle_seconds: float = 15.0
    """Wait for the first byte of a request; the connection is closed after it."""
    head_seconds: float = 10.0
    """From the first byte of a head to its last, whatever arrives in between; 408 after it."""
    body_seconds: float = 30.0
    """From the end of the head to the end of the body; 408 after it."""
    write_seconds: float = 30.0
    """One write to a client that does not read; the connection is dropped after it."""
