"""A flag that is a time limit."""

from server.options.flag import Flag
from server.options.values import number

_DAY = 24 * 60 * 60


def timeout(name: str, text: str, default: float) -> Flag[float]:
    """Return a flag for seconds, above 0 and up to a day."""
    return Flag(name, "SECONDS", number(0, _DAY, above_low=True), text, f"{default:g}")
