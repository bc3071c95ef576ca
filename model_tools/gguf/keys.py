"""The metadata keys of a GGUF file, read by name and type; unread keys are refused by name.

Knows how GGUF types its values, not what any key means.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from gguf import ReaderField

from server.errors import StartError


class GgufKeys:
    """Reads keys by type and remembers which were read.

    Every reader raises StartError where a key is missing without a default, or has another type.
    """

    def __init__(self, source: str, fields: Mapping[str, ReaderField]) -> None:
        self._source = source
        self._fields = fields
        self._unread = set(fields)

    def names(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, in the file's order, read or not."""
        return [name for name in self._fields if name.startswith(prefix)]

    def has(self, name: str) -> bool:
        return name in self._fields

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._value(name, default)
        if not _is_integer(value):
            raise self.error(f"{name} is no integer")
        return int(value)

    def optional_integer(self, name: str) -> int | None:
        return self.integer(name) if self.has(name) else None

    def layer_integer(self, name: str, default: int | None = None) -> int:
        """Reads a number given once or per layer, which must be the same for every layer."""
        value = self._value(name, default)
        values = value if isinstance(value, list) else [value]
        if not values or not all(map(_is_integer, values)):
            raise self.error(f"{name} is no integer")
        if len(set(values)) != 1:
            raise self.error(f"{name} differs between layers, which is not supported")
        return int(values[0])

    def number(self, name: str, default: float | None = None) -> float:
        value = self._value(name, default)
        if not (_is_integer(value) or isinstance(value, float)) or not math.isfinite(value):
            raise self.error(f"{name} is no finite number")
        return float(value)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.error(f"{name} is neither true nor false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self.error(f"{name} is no text")
        return value

    def texts(self, name: str) -> list[str]:
        value = self._value(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(f"{name} is no list of texts")
        return value

    def integers(self, name: str) -> list[int]:
        value = self._value(name)
        if not isinstance(value, list) or not all(map(_is_integer, value)):
            raise self.error(f"{name} is no list of integers")
        return value

    def ignore(self, names: Iterable[str]) -> None:
        """Marks keys as read that only describe the model."""
        self._unread.difference_update(names)

    def refuse_unless(self, name: str, *harmless: bool | float | str) -> None:
        """Refuses an unsupported key unless it is absent or has a value that changes nothing."""
        if self.has(name) and (value := self._value(name)) not in harmless:
            shown = f"{value!r:.40}" if not isinstance(value, list) else "a list"
            raise self.error(f"{name} = {shown} is not supported")

    def refuse_unread(self, *prefixes: str) -> None:
        """Refuses keys below `prefixes` that were not read, rather than drop them silently."""
        unread = sorted(name for name in self._unread if name.startswith(prefixes))
        if unread:
            raise self.error(f"not supported: {', '.join(unread[:5])}")

    def error(self, reason: str) -> StartError:
        return StartError(f"{self._source}: {reason}")

    def _value(self, name: str, default: object = None) -> Any:
        field = self._fields.get(name)
        if field is None:
            if default is None:
                raise self.error(f"{name} is missing")
            return default
        self._unread.discard(name)
        try:
            return field.contents()
        except UnicodeDecodeError as error:
            raise self.error(f"{name} is not UTF-8") from error


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
