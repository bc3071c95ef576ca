"""GET /openapi.json: the routes and what they take, as an OpenAPI 3.1 document.

Made from the table of routes and the fields that read requests, so that it cannot contradict them.
"""

import json
from collections.abc import Sequence, Set
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
_NO_KEY: Schema = {**_REFUSED, "description": "No API key was shown, or one that is not known."}
_BUSY = "Every connection of this server is busy, or the server ends."


@dataclass(frozen=True, slots=True)
class OpenApi:
    """The route's handler."""

    document: bytes

    @classmethod
    def of(cls, operations: Sequence[Operation], keyed: Set[str]) -> "OpenApi":
        """`keyed` are the paths that ask for an API key."""
        return cls(json.dumps(describe(operations, keyed)).encode("ascii"))

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        headers = ((b"Content-Type", b"application/json"),)
        await exchange.respond(Response(200, self.document, headers))


def describe(operations: Sequence[Operation], keyed: Set[str]) -> Schema:
    """The document; see `OpenApi.of`."""
    paths: dict[str, dict[str, Schema]] = {}
    for operation in operations:
        route = operation.route
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(
            operation, asks_for_key=route.path in keyed
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Skiff", "version": __version__},
        "paths": paths,
        "components": {
            "responses": {"Refused": _REFUSED, "NoKey": _NO_KEY},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, *, asks_for_key: bool) -> Schema:
    described: dict[str, object] = {
        "operationId": PurePosixPath(operation.route.path).name,
        "summary": operation.summary,
        "responses": _responses(operation, asks_for_key=asks_for_key),
    }
    if asks_for_key:
        described["security"] = [{"key": []}]
    if operation.route.consumes is not None:
        described["requestBody"] = {
            "required": True,
            "content": {
                operation.route.consumes.decode(): {"schema": object_schema(operation.fields)}
            },
        }
    return described


def _responses(operation: Operation, *, asks_for_key: bool) -> Schema:
    """By status."""
    responses: dict[str, object] = {
        "200": {
            "description": operation.answer.about,
            "content": {operation.answer.media_type: {"schema": operation.answer.schema}},
        },
        "4XX": {"$ref": "#/components/responses/Refused"},
    }
    if asks_for_key:
        responses["401"] = {"$ref": "#/components/responses/NoKey"}
    reasons = [_BUSY] if operation.unavailable is None else [operation.unavailable, _BUSY]
    responses["503"] = {**_REFUSED, "description": " Or: ".join(reasons)}
    return responses
