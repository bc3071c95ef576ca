"""Paddler's legacy dialect: engine events to lines of JSON, as the page of the seed endpoint has
them. Sans-IO.

The lines are compact and ASCII only, since Paddler's own Python client splits lines at U+2028, too.
"""

from json.encoder import encode_basestring_ascii

from server.api.json_schema import Schema, exact_object
from server.engine.events import Event, Failed, Text

_TEXT: Schema = {"type": "string"}
_CODE: Schema = {"type": "integer", "minimum": 500, "maximum": 599}
_GENERATED: Schema = {"oneOf": [exact_object({"Token": _TEXT}), {"const": "Done"}]}
_FAULT = exact_object({"code": _CODE, "description": _TEXT})
_RESPONSE = {"request_id": _TEXT, "response": exact_object({"GeneratedToken": _GENERATED})}
_ERROR = {"request_id": _TEXT, "error": _FAULT}
LINE: Schema = {
    "oneOf": [
        exact_object({"Response": exact_object(_RESPONSE)}),
        exact_object({"Error": exact_object(_ERROR)}),
    ]
}
"""Every line of a stream; the last one, and no other, is `Done` or an `Error`."""


class Envelopes:
    """Encodes the events of one request."""

    def __init__(self, request_id: str) -> None:
        # One token is one short string between two constants: 0.14 us, where `json.dumps` of the
        # nested envelope takes 2.6.
        quoted = encode_basestring_ascii(request_id)
        generated = f'{{"Response":{{"request_id":{quoted},"response":{{"GeneratedToken":'
        self._token = generated + '{"Token":'
        self._done = f'{generated}"Done"}}}}}}\n'.encode("ascii")
        self._error = f'{{"Error":{{"request_id":{quoted},"error":{{"code":'

    def encode(self, event: Event) -> bytes:
        """Return the line for `event`, with its line end."""
        if isinstance(event, Text):
            return f"{self._token}{encode_basestring_ascii(event.text)}}}}}}}}}\n".encode("ascii")
        if isinstance(event, Failed):
            return self.error(event.code, event.description)
        return self._done

    def error(self, code: int, description: str) -> bytes:
        """Return the line that ends a stream that cannot go on."""
        quoted = encode_basestring_ascii(description)
        return f'{self._error}{code},"description":{quoted}}}}}}}\n'.encode("ascii")
