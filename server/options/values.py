"""What the values of flags may be: text to a typed value. Knows no flag.

Each parser raises ValueError with what the value must be, to be read after "must be".
"""

import math
import re
from collections.abc import Callable

from server.config import Address


def nothing() -> None:
    """Where nobody said anything and somebody else decides."""


def integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text[:20]) <= high:
            raise ValueError(f"an integer from {low} to {high}")
        return int(text)

    return parse


def number(
    low: float, high: float = math.inf, *, above_low: bool = False
) -> Callable[[str], float]:
    """A finite number; `above_low` leaves `low` itself out."""
    upper = "" if high == math.inf else f" and at most {high:g}"
    sentence = f"a number {'above' if above_low else 'of at least'} {low:g}{upper}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(sentence) from None
        if not math.isfinite(value) or not low <= value <= high or (above_low and value == low):
            raise ValueError(sentence)
        return value

    return parse


def choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text.lower()

    return parse


def switch(text: str) -> bool:
    """On or off, in the words that people write into environments."""
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("on or off")


_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size(low: int, high: int) -> Callable[[str], int]:
    """Bytes, as in 300, 16KiB or 2MiB."""

    def parse(text: str) -> int:
        match = re.fullmatch("([0-9]{1,15})(|KiB|MiB|GiB)", text)
        value = int(match[1]) * _UNITS[match[2]] if match else -1
        if not low <= value <= high:
            raise ValueError(f"a size from {size_text(low)} to {size_text(high)}")
        return value

    return parse


def size_text(value: int) -> str:
    """As `size` reads it: 16384 is 16KiB."""
    unit, scale = [(unit, scale) for unit, scale in _UNITS.items() if value % scale == 0][-1]
    return f"{value // scale}{unit}"


def address(text: str) -> Address:
    """HOST:PORT; an IPv6 host is in brackets, since it has colons itself."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host.strip("[]") or (":" in host) != bracketed:
        raise ValueError("HOST:PORT ([HOST]:PORT for IPv6)")
    try:
        return Address(host.strip("[]"), integer(0, 65535)(port))
    except ValueError:
        raise ValueError("HOST:PORT with a port from 0 to 65535") from None
