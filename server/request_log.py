"""One line of the log for each request, when it ends: ids and counts, never text."""

import logging

from server.engine.events import FinishReason
from server.engine.facts import End, RequestEnded

log = logging.getLogger(__name__)


def log_request(ended: RequestEnded) -> None:
    """Log a request that ended; the milliseconds of its three phases add up to its whole time."""
    fields = {
        "request_id": ended.request_id,
        **_end(ended.end),
        "prompt_tokens": ended.prompt_tokens,
        "reused_tokens": ended.reused_tokens,
        "new_tokens": ended.generated_tokens,
        "queue_ms": _milliseconds(ended.queue_seconds),
        "prefill_ms": _milliseconds(ended.prefill_seconds),
        "decode_ms": _milliseconds(ended.decode_seconds),
    }
    log.info("request ended", extra={"fields": fields})


def _end(end: End) -> dict[str, object]:
    """How the request ended, in vLLM's words."""
    if isinstance(end, FinishReason):
        return {"finish_reason": end.value}
    return {"finish_reason": "abort"} if end is None else {"finish_reason": "error", "code": end}


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
