"""A route, and what a client must know to use it. Knows no handler's inside and no engine."""

from dataclasses import dataclass
from typing import Any

from server.api.json_reader import Field
from server.api.json_schema import Schema
from server.http.routing import Route


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an accepted request, with status 200."""

    media_type: str
    schema: Schema
    """Of the body; of each of its lines if the answer is a stream."""
    about: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the table of routes."""

    route: Route
    summary: str
    answer: Answer
    fields: tuple[Field[Any], ...] = ()
    """The fields of the body's object; none where the route ignores bodies."""
    unavailable: str | None = None
    """What status 503 means on this route; None if its handler never answers with it."""
