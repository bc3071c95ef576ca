"""How a record of the log is written. Knows nothing of what is logged.

A record's message and fields are one line, whatever a client put into them: no client can forge a
record. `fields` are given as `log.info("...", extra={"fields": {...}})`.
"""

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from server.config import LogFormat

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def formatter(log_format: LogFormat) -> logging.Formatter:
    return JsonLines() if log_format is LogFormat.JSON else TextLines()


class TextLines(logging.Formatter):
    """For a terminal. A traceback follows on lines of its own, all of them indented, so that none
    passes for a record."""

    def format(self, record: logging.LogRecord) -> str:
        fields = (f" {name}={value}" for name, value in _fields(record).items())
        message = escaped(record.getMessage() + "".join(fields))
        line = f"{self.formatTime(record)} {record.levelname} {record.name}: {message}"
        if record.exc_info:
            for each in self.formatException(record.exc_info).split("\n"):
                line += f"\n    {escaped(each)}"
        return line


class JsonLines(logging.Formatter):
    """For programs: an object a line, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC)
        values = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    return fields


def escaped(text: str) -> str:
    """One line: control characters become escapes."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
