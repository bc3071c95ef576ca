"""The flags about the process: where it listens and what it says."""

from server.config import LogFormat, Serving
from server.options.flag import Flag, Group
from server.options.values import address, choice


def log_format(text: str) -> LogFormat:
    return LogFormat(choice(*(each.value for each in LogFormat))(text))


SERVING = Group(
    "serving",
    "Where the server is, and what it says.",
    Serving,
    {
        "inference_address": Flag(
            "inference-address",
            "HOST:PORT",
            address,
            "where to listen, or unix:PATH; port 0 takes a free one",
            "127.0.0.1:8061",
        ),
        "log_level": Flag(
            "log-level",
            "LEVEL",
            choice("debug", "info", "warning", "error"),
            "debug, info, warning or error",
            "info",
        ),
        "log_format": Flag(
            "log-format", "FORMAT", log_format, "text, or json: one object a line", "text"
        ),
    },
)
