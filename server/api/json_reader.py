"""Strict JSON to typed values, guided by declared fields. Knows no route and no HTTP but the
status 400.

Only the declared fields are read, so that reading hostile input stops at its first wrong character:
an unknown field is refused without looking at its value, a value of the wrong type without parsing
it, and nesting goes only as deep as the declaration does. Rejected: `json.loads` with hooks, which
accepts NaN, 1e999, lone surrogates and repeated keys, and builds all that was sent before anyone
can refuse it: for 2 MiB of `[]`, that holds the event loop for 0.2 s.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from server.api.json_schema import Schema, exact_object
from server.errors import ClientError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_WHITESPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_STRINGS = json.JSONDecoder(strict=True)
_KINDS = {
    "{": "an object",
    "[": "an array",
    '"': "a string",
    "t": "a boolean",
    "f": "a boolean",
    "n": "null",
    **dict.fromkeys("-0123456789", "a number"),
}
_INTEGER_DIGITS = 20
_SHOWN_NAME = 64


class Cursor:
    """A position in JSON text. Its methods move past what they read; all raise ClientError(400)."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def take(self, expected: str) -> str:
        """Take the next character after whitespace, which must be one of `expected`."""
        character = self._peek()
        if not character or character not in expected:
            raise self._malformed(" or ".join(f"'{one}'" for one in expected))
        self._at += 1
        return character

    def comes(self, character: str) -> bool:
        """Take `character` if it is next; return whether it was."""
        if self._peek() != character:
            return False
        self._at += 1
        return True

    def require(self, kind: str, name: str, wanted: str) -> None:
        """Check that the next value begins like `kind`, one of `_KINDS`. The error calls the value
        `name` and says that it must be `wanted`."""
        found = _KINDS.get(self._peek())
        if found is None:
            raise self._malformed(wanted)
        if found != kind:
            raise ClientError(400, f"{name}: must be {wanted}, not {found}")

    def string(self, name: str) -> str:
        """Read a string without lone surrogates, which UTF-8 cannot represent."""
        self.require("a string", name, "a string")
        try:
            value, self._at = _STRINGS.raw_decode(self._text, self._at)
            value.encode()
        except json.JSONDecodeError as error:
            raise ClientError(
                400, f"malformed JSON: bad string at character {error.pos}"
            ) from error
        except UnicodeEncodeError as error:
            raise ClientError(400, f"{name}: holds half of a surrogate pair") from error
        return cast("str", value)

    def number(self, name: str, wanted: str) -> re.Match[str]:
        """Read a number; return its integer part, fraction and exponent. The error says that it
        must be `wanted`."""
        self.require("a number", name, wanted)
        match = _NUMBER.match(self._text, self._at)
        if match is None:
            raise self._malformed("a number")
        self._at = match.end()
        return match

    def end(self) -> None:
        """Check that nothing but whitespace is left."""
        if self._peek():
            raise self._malformed("nothing more")

    def _peek(self) -> str:
        match = _WHITESPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._text[self._at : self._at + 1]

    def _malformed(self, expected: str) -> ClientError:
        return ClientError(400, f"malformed JSON: expected {expected} at character {self._at}")


class Shape(Protocol[T_co]):
    """A type of JSON value with its range."""

    @property
    def schema(self) -> Schema:
        """The values that `read` takes."""

    def read(self, cursor: Cursor, name: str) -> T_co:
        """Read the value at `cursor`. A wrong one raises a ClientError(400), which calls it
        `name`."""


@dataclass(frozen=True, slots=True)
class String:
    """Any string."""

    @property
    def schema(self) -> Schema:
        """See `Shape`."""
        return {"type": "string"}

    def read(self, cursor: Cursor, name: str) -> str:
        """See `Shape`."""
        return cursor.string(name)


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer from `least` to `most`, written as one: 400.0 and 4e2 are none."""

    least: int
    most: int

    @property
    def schema(self) -> Schema:
        """See `Shape`."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def read(self, cursor: Cursor, name: str) -> int:
        """See `Shape`."""
        digits, fraction, exponent = cursor.number(name, "an integer").groups()
        if fraction or exponent:
            raise ClientError(400, f"{name}: must be an integer, without fraction or exponent")
        # The length comes first: int() of a long text is slow, and refuses more than 4300 digits.
        if len(digits) > _INTEGER_DIGITS or not self.least <= int(digits) <= self.most:
            raise ClientError(400, f"{name}: must be between {self.least} and {self.most}")
        return int(digits)


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """A required field of an object."""

    name: str
    shape: Shape[T]
    about: str
    """What it means, for readers of the API's description."""


class Values:
    """An object that was read: `values[field]` has the type of the field."""

    def __init__(self) -> None:
        self._values: dict[str, object] = {}

    def __contains__(self, field: Field[Any]) -> bool:
        return field.name in self._values

    def __getitem__(self, field: Field[T]) -> T:
        return cast("T", self._values[field.name])

    def read(self, field: Field[Any], cursor: Cursor) -> None:
        """Read the value of `field` at `cursor`."""
        self._values[field.name] = field.shape.read(cursor, field.name)


def object_schema(fields: Sequence[Field[Any]]) -> Schema:
    """Return the schema of the objects that `read_object` takes."""
    return exact_object(
        {field.name: {**field.shape.schema, "description": field.about} for field in fields}
    )


def read_object(body: bytes, fields: Sequence[Field[Any]]) -> Values:
    """Read the JSON object in `body`: every field once, no other.

    Raises ClientError(400) whose sentence names the field, or the position in the text, and the
    reason.
    """
    try:
        cursor = Cursor(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ClientError(400, f"the body is not UTF-8 at byte {error.start}") from error
    values = Values()
    cursor.require("an object", "the body", "a JSON object")
    cursor.take("{")
    if not cursor.comes("}"):
        _read_fields(cursor, {field.name: field for field in fields}, values)
    cursor.end()
    for field in fields:
        if field not in values:
            raise ClientError(400, f"{field.name}: is missing")
    return values


def _read_fields(cursor: Cursor, fields: dict[str, Field[Any]], values: Values) -> None:
    while True:
        name = cursor.string("a field's name")
        cursor.take(":")
        field = fields.get(name)
        if field is None:
            raise ClientError(400, f"{json.dumps(name[:_SHOWN_NAME])}: is not a known field")
        if field in values:
            raise ClientError(400, f"{name}: is given twice")
        values.read(field, cursor)
        if cursor.take(",}") == "}":
            return
