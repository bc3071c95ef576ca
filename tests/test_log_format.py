"""Records as lines, whatever is in them."""

import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.config import LogFormat
from server.engine.events import FinishReason
from server.engine.facts import RequestEnded
from server.log_format import formatter
from server.request_log import log_request

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    logger = logging.getLogger("a.b")
    return logger.makeRecord("a.b", logging.INFO, "", 0, message, arguments, None, extra=extra)


def breaks(reason: str) -> None:
    raise ValueError(reason)


def failed(reason: str) -> logging.LogRecord:
    try:
        breaks(reason)
    except ValueError as error:
        found = record("a call failed")
        found.exc_info = (ValueError, error, error.__traceback__)
    return found


@given(st.text())
def test_text_is_one_line_whatever_the_client_sent(sent: str) -> None:
    line = formatter(LogFormat.TEXT).format(record("path %s", sent, fields={"id": sent}))
    assert len(line.splitlines()) == 1
    assert re.match(rf"{TIME} INFO a\.b: path ", line)


@given(st.text())
def test_no_line_of_a_traceback_passes_for_a_record(sent: str) -> None:
    first, *rest = formatter(LogFormat.TEXT).format(failed(sent)).splitlines()
    assert re.fullmatch(rf"{TIME} INFO a\.b: a call failed", first)
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in rest)


@given(st.text())
def test_json_is_one_line_with_all_of_it(sent: str) -> None:
    text = formatter(LogFormat.JSON).format(failed(sent))
    assert len(text.splitlines()) == 1
    assert json.loads(text)["traceback"].endswith(f"ValueError: {sent}" if sent else "ValueError")


def test_a_field_is_a_field() -> None:
    made = record("request ended", fields={"id": "x", "tokens": 3})
    assert formatter(LogFormat.TEXT).format(made).endswith("a.b: request ended id=x tokens=3")
    values = json.loads(formatter(LogFormat.JSON).format(made))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", values.pop("time"))
    assert values == {
        "level": "info",
        "logger": "a.b",
        "message": "request ended",
        "id": "x",
        "tokens": 3,
    }


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (FinishReason.LENGTH, "finish_reason=length"),
        (503, "finish_reason=error code=503"),
        (None, "finish_reason=abort"),
    ],
)
def test_a_request_is_a_line(
    end: FinishReason | int | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        log_request(RequestEnded("abc", end, 20, 18, 5, 0.00025, 0.012, 0.1234567))
    [made] = caplog.records
    assert (
        formatter(LogFormat.TEXT)
        .format(made)
        .endswith(
            f": request ended request_id=abc {said} prompt_tokens=20 reused_tokens=18 new_tokens=5"
            " queue_ms=0.25 prefill_ms=12.0 decode_ms=123.457"
        )
    )
