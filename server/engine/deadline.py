"""Deadlines in a process that may be stopped for a while (Ctrl-Z, SIGSTOP). Knows no clock."""

_NOTICED_WITHIN = 1.0
"""Seconds after a deadline within which a running event loop has noticed it."""


def noticed_on_time(due: float, now: float) -> bool:
    """Whether a deadline is noticed when it passes, at `now`, and not much later: then the process
    was stopped in between, and whoever is waited for with it."""
    return now < due + _NOTICED_WITHIN
