"""Deadlines in a process that may be stopped for a while (Ctrl-Z, SIGSTOP). Knows no clock."""

_NOTICED_WITHIN = 1.0
"""Seconds after a deadline within which a running event loop notices it."""


def noticed_on_time(due: float, now: float) -> bool:
    """Whether a deadline at `due` is noticed in time, at `now`. If it is noticed much later, the
    process was stopped in between, and so was whatever it waited for."""
    return now < due + _NOTICED_WITHIN
