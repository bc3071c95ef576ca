"""What pip says is one line that helps."""

import pytest

from model_tools.pip_failure import pip_failure

RETRY = "WARNING: Retrying (Retry(total=4)) after connection broken by '%s': /simple/numpy/"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (RETRY % "NewConnectionError(...)", "PyPI does not answer"),
        (RETRY % "SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] ...')", "set PIP_CERT="),
        ("ERROR: No matching distribution found for a\n\n[notice] a new pip\n", "ERROR: No match"),
        ("Killed\n", "Killed"),
        ("", "without a word"),
    ],
)
def test_the_line_that_says_most(output: str, expected: str) -> None:
    assert expected in pip_failure(output)
