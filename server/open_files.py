"""How many files this process may have open: each connection is one."""

import resource

from server.errors import StartError

_BESIDE_CONNECTIONS = 64
"""The listeners, the model's files, and connections that are only refused with 503."""


def allow_connections(count: int) -> None:
    """Raise the limit on open files to what `count` connections need. Raises `StartError`.

    A server at that limit cannot even accept a connection to refuse it.
    """
    needed = count + _BESIDE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError):
        raise StartError(
            f"--max-connections {count} needs {needed} open files,"
            f" and this process may have {hard} (ulimit -n)"
        ) from None
