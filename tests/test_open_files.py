"""As many open files as connections need, or one line."""

import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from server.open_files import allow_connections


@pytest.fixture
def soft_limit() -> Iterator[int]:
    """A soft limit that is lower than the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_limit_is_raised_and_never_lowered(soft_limit: int) -> None:
    allow_connections(10)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft_limit
    allow_connections(soft_limit)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > soft_limit


def test_a_limit_that_is_too_low_is_one_line() -> None:
    command = ["sh", "-c", 'ulimit -n 100 && exec "$@"', "sh", sys.executable, "-P", "-c"]
    program = "from server.open_files import allow_connections; allow_connections(50)"
    run = subprocess.run([*command, program], capture_output=True, text=True, check=False)
    last = run.stderr.splitlines()[-1]
    assert last.endswith(
        "StartError: --max-connections 50 needs 114 open files, and this process may have 100"
        " (ulimit -n)"
    )
