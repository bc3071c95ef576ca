"""What is left out has its reason, and costs nothing else."""

import math
from collections.abc import Iterator

import pytest

from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.loaded import DoesNotFit
from model_tools.gpu_check.outcome import outcome, outcomes
from server.errors import StartError

UNMADE = Finding("model", "cell")


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (DoesNotFit("8 GiB"), "skipped, does not fit: 8 GiB"),
        (StartError("no kernel for it"), "skipped: no kernel for it"),
        (RuntimeError("CUDA failure 700: illegal\nmore"), "failed: RuntimeError: CUDA failure 700"),
        (IndexError(), "failed: IndexError: "),
    ],
)
def test_what_goes_wrong_is_told(
    error: Exception, note: str, caplog: pytest.LogCaptureFixture
) -> None:
    def make() -> Iterator[Finding]:
        yield Finding("model", "first")
        raise error

    first, last = outcomes(math.inf, UNMADE, make)
    assert first == Finding("model", "first")
    assert (last.model, last.what) == ("model", "cell")
    assert last.note.startswith(note)
    assert bool(caplog.records) == note.startswith("failed")


def test_nothing_is_begun_too_late() -> None:
    assert outcome(-math.inf, UNMADE, lambda: UNMADE).note == "skipped: no time left"
    assert outcome(math.inf, UNMADE, lambda: UNMADE) is UNMADE
