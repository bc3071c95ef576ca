"""The flags about waiting for the engine: how long, and how many requests at once."""

from server.config import EngineLimits
from server.options.flag import Flag, Group
from server.options.timeout import timeout
from server.options.values import integer

_DEFAULT = EngineLimits()


ENGINE_LIMITS = Group(
    "timeouts",
    "How long, and how many, requests wait for the engine; an error is a stream's last line.",
    EngineLimits,
    {
        "buffered_requests": Flag(
            "buffered-requests",
            "N",
            integer(0, 2**20),
            "requests that wait for a slot; Error 503 beyond",
            str(_DEFAULT.buffered_requests),
        ),
        "buffered_seconds": timeout(
            "buffered-timeout", "for a slot; Error 504 after it", _DEFAULT.buffered_seconds
        ),
        "progress_seconds": timeout(
            "progress-timeout",
            "from one token, or piece of the prompt, to the next; Error 504 after it",
            _DEFAULT.progress_seconds,
        ),
        "call_seconds": timeout(
            "engine-call-timeout",
            "for one call into the model; after it the process ends, with code 1",
            _DEFAULT.call_seconds,
        ),
        "drain_seconds": timeout(
            "drain-timeout",
            "for what runs and waits at SIGTERM or SIGINT; Error 503 after it",
            _DEFAULT.drain_seconds,
        ),
    },
)
