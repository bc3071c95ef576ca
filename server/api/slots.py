"""GET /api/v1/slots: what each slot does. Knows the engine's front; shows ids and counts only."""

import json
from dataclasses import dataclass

from server.api.generation import Generator
from server.api.json_schema import Schema, exact_object
from server.api.operation import Answer
from server.engine.facts import Activity, SlotState
from server.http.exchange import Exchange
from server.http.messages import Response

_COUNT: Schema = {"type": "integer", "minimum": 0}
_IDLE: Schema = {"const": "idle"}
_TAKEN: Schema = exact_object(
    {
        "activity": {"enum": [activity.value for activity in Activity]},
        "request_id": {"type": "string"},
        "prompt_tokens": _COUNT,
        "read_tokens": _COUNT,
        "reused_tokens": _COUNT,
        "new_tokens": _COUNT,
    }
)
_SLOT: Schema = {"oneOf": [_TAKEN, exact_object({"activity": _IDLE})]}
SLOTS = Answer(
    "application/json",
    exact_object({"slots": {"type": "array", "items": _SLOT}, "waiting": _COUNT}),
    "All slots, those that are taken first; and how many requests wait for one.",
)
_HEADERS = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))


@dataclass(frozen=True, slots=True)
class Slots:
    """The route's handler."""

    engine: Generator

    async def __call__(self, exchange: Exchange) -> None:
        """Answer with what each slot does now."""
        occupancy = self.engine.occupancy
        taken = [_slot(state) for state in occupancy.taken]
        idle = [{"activity": "idle"}] * (occupancy.slots - len(taken))
        body = {"slots": [*taken, *idle], "waiting": occupancy.waiting}
        data = json.dumps(body, separators=(",", ":")).encode("ascii")
        await exchange.respond(Response(200, data, _HEADERS))


def _slot(state: SlotState) -> dict[str, object]:
    return {
        "activity": state.activity.value,
        "request_id": state.request_id,
        "prompt_tokens": state.prompt_tokens,
        "read_tokens": state.read_tokens,
        "reused_tokens": state.reused_tokens,
        "new_tokens": state.generated_tokens,
    }
