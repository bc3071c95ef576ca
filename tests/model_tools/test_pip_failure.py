"""What pip says is one line that helps."""

import pytest

from model_tools.pip_failure import pip_failure

BUILD = """\
  error: subprocess-exited-with-error
      ERROR: No matching distribution found for setuptools>=40.8.0
  note: This error originates from a subprocess, and is likely not a problem with pip.
error: subprocess-exited-with-error
╰─> See above for output.
note: This error originates from a subprocess, and is likely not a problem with pip.
"""
RETRY = "WARNING: Retrying (Retry(total=4)) after connection broken by '%s': /simple/numpy/"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (RETRY % "NewConnectionError(...)", "PyPI does not answer"),
        (RETRY % "SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] ...')", "set PIP_CERT="),
        ("ERROR: No matching distribution found for a\n\n[notice] a new pip\n", "ERROR: No match"),
        (BUILD, "ERROR: No matching distribution found for setuptools"),
        ("Killed\n", "Killed"),
        ("", "without a word"),
    ],
)
def test_the_line_that_says_most(output: str, expected: str) -> None:
    assert expected in pip_failure(output)
