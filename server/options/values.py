"""Parsers for the values of flags: text to a typed value. Knows no flag.

Each parser raises ValueError with what the value must be, to be read after "must be".
"""

import math
import os
import re
from collections.abc import Callable
from typing import TypeVar

from server.config import CPU, Address, Device, DeviceKind, UnixAddress

T = TypeVar("T")


def nothing() -> None:
    """Return None: the value of a flag that was not given and that is decided elsewhere."""


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of integers in decimal digits; `low` is at least 0."""

    def parse(text: str) -> int:
        value = int(text) if re.fullmatch("[0-9]{1,20}", text) else -1
        if not low <= value <= high:
            raise ValueError(f"an integer from {low} to {high}")
        return value

    return parse


def mebibytes(text: str) -> int:
    """Return the number of bytes in `text` MiB."""
    return integer(0, 2**31 - 1)(text) * 2**20


def number(
    low: float, high: float = math.inf, *, above_low: bool = False
) -> Callable[[str], float]:
    """Return a parser of finite numbers; `above_low` excludes `low` itself."""
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
    """Parse on or off, in the words that people write into environments."""
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("on or off")


def unless(text: str) -> bool:
    """Parse a switch that turns a thing off; return whether the thing is on."""
    return not switch(text)


def listed(parse_one: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """Return a parser of several values between commas."""

    def parse(text: str) -> tuple[T, ...]:
        return tuple(parse_one(one.strip()) for one in text.split(","))

    return parse


_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of sizes in bytes, such as 300, 16KiB or 2MiB."""

    def parse(text: str) -> int:
        match = re.fullmatch("([0-9]{1,15})(|KiB|MiB|GiB)", text)
        value = int(match[1]) * _UNITS[match[2]] if match else -1
        if not low <= value <= high:
            raise ValueError(f"from {size_text(low)} to {size_text(high)} (bytes, KiB, MiB or GiB)")
        return value

    return parse


def size_text(value: int) -> str:
    """Return a size as `size` reads it: 16384 is 16KiB."""
    unit, scale = [(unit, scale) for unit, scale in _UNITS.items() if value % scale == 0][-1]
    return f"{value // scale}{unit}"


_SUN_PATH_BYTES = 107
"""The longest path of a UNIX socket on Linux; four bytes more than elsewhere."""


def address(text: str) -> Address | UnixAddress:
    """Parse HOST:PORT or unix:PATH; an IPv6 host is in brackets, since it has colons itself."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path or len(os.fsencode(path)) > _SUN_PATH_BYTES:
            raise ValueError(f"unix:PATH with a path of 1 to {_SUN_PATH_BYTES} bytes")
        return UnixAddress(path)
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host.strip("[]") or (":" in host) != bracketed:
        raise ValueError("HOST:PORT ([HOST]:PORT for IPv6) or unix:PATH")
    try:
        return Address(host.strip("[]"), integer(0, 65535)(port))
    except ValueError:
        raise ValueError("HOST:PORT with a port from 0 to 65535") from None


def device(text: str) -> Device | None:
    """Parse a device; `auto` is None, and is decided when the model is opened."""
    if text.lower() in ("auto", "cpu"):
        return CPU if text.lower() == "cpu" else None
    if not (match := re.fullmatch("cuda(?::([0-9]{1,4}))?", text.lower())):
        raise ValueError("auto, cpu, cuda or cuda:N")
    return Device(DeviceKind.CUDA, int(match[1] or 0))


_ORIGIN = re.compile(r"[a-z][a-z0-9+.\-]*://(?:[a-z0-9.\-_]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def origin(text: str) -> str:
    """Parse an origin as browsers send it. `*` and `null` would allow everybody: refused."""
    default_port = {"http": ":80", "https": ":443"}.get(text.partition(":")[0], "/")
    if not _ORIGIN.fullmatch(text) or text.endswith(default_port):
        raise ValueError("an origin as browsers send it, like https://example.com or http://a:8080")
    return text


def host(text: str) -> str:
    """Parse a name or an address as in the field Host, without a port; or `*`."""
    if not re.fullmatch(r"\*|[A-Za-z0-9.\-_]+|\[[0-9A-Fa-f:.]+\]", text):
        raise ValueError("a host without port, like example.com or [::1], or * for all")
    return text.strip("[]").lower()
