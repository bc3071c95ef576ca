"""GET /openapi.json: what the routes are and take, as OpenAPI 3.1 has it.

Made from the table of routes and the fields that read requests, so that it cannot say anything
else than what holds.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from server import __version__
from server.api.json_reader import object_schema
from server.api.json_schema import Schema
from server.api.operation import Operation
from server.http.exchange import Exchange
from server.http.messages import Response

_REFUSED: Schema = {
    "description": "The request is wrong; a sentence names the place and the reason.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}


@dataclass(frozen=True, slots=True)
class OpenApi:
    """The route's handler."""

    document: bytes

    @classmethod
    def of(cls, operations: Sequence[Operation]) -> "OpenApi":
        return cls(json.dumps(describe(operations)).encode("ascii"))

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        headers = ((b"Content-Type", b"application/json"),)
        await exchange.respond(Response(200, self.document, headers))


def describe(operations: Sequence[Operation]) -> Schema:
    """The document."""
    paths: dict[str, dict[str, Schema]] = {}
    for operation in operations:
        route = operation.route
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Skiff", "version": __version__},
        "paths": paths,
        "components": {"responses": {"Refused": _REFUSED}},
    }


def _operation(operation: Operation) -> Schema:
    described: dict[str, object] = {
        "operationId": PurePosixPath(operation.route.path).name,
        "summary": operation.summary,
        "responses": _responses(operation),
    }
    if operation.route.consumes is not None:
        described["requestBody"] = {
            "required": True,
            "content": {
                operation.route.consumes.decode(): {"schema": object_schema(operation.fields)}
            },
        }
    return described


def _responses(operation: Operation) -> Schema:
    """By status."""
    responses: dict[str, object] = {
        "200": {
            "description": operation.answer.about,
            "content": {operation.answer.media_type: {"schema": operation.answer.schema}},
        },
        "4XX": {"$ref": "#/components/responses/Refused"},
    }
    if operation.unavailable is not None:
        responses["503"] = {**_REFUSED, "description": operation.unavailable}
    return responses
