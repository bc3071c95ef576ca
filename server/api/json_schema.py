"""JSON Schemas for the API's description. Knows no format."""

from collections.abc import Mapping

Schema = Mapping[str, object]
"""JSON Schema, 2020-12."""


def exact_object(properties: Mapping[str, Schema]) -> Schema:
    """Return the schema of an object with all of these fields, and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
