"""A route, and what a client must know to use it. Knows no handler's inside and no engine."""

from dataclasses import dataclass
from typing import Any

from server.api.json_reader import Field
from server.api.json_schema import Schema
from server.http.routing import Route


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets that is accepted, with status 200."""

    media_type: str
    schema: Schema
    """Of the body; of each line of it where the answer is a stream."""
    about: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the table of routes."""

    route: Route
    summary: str
    answer: Answer
    fields: tuple[Field[Any], ...] = ()
    """What the body's object has; none where the route ignores bodies."""
    unavailable: str | None = None
    """What status 503 means here, where the route has it."""
