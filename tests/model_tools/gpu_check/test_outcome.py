"""What is left out has its reason, and costs nothing else."""

import math
import weakref
from collections.abc import Iterator

import pytest

from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.loaded import DoesNotFit
from model_tools.gpu_check.outcome import log, outcomes
from server.errors import DeviceLost, StartError

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
    assert bool(caplog.records) == last.failed == note.startswith("failed")
    assert last.skipped == note.startswith("skipped")


def test_nothing_is_begun_too_late() -> None:
    [late] = outcomes(-math.inf, UNMADE, lambda: [UNMADE])
    assert late.note == "skipped: no time left"
    assert list(outcomes(math.inf, UNMADE, lambda: [UNMADE])) == [UNMADE]


class Session:
    """A session whose end may be that of the process."""


@pytest.mark.parametrize("error", [StartError, RuntimeError, DoesNotFit])
def test_a_reason_is_told_before_the_session_is_destroyed(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "disabled", True)  # else pytest keeps what is logged
    sessions: list[weakref.ref[Session]] = []

    def make() -> Iterator[Finding]:
        session = Session()
        sessions.append(weakref.ref(session))
        yield Finding("model", "first")
        raise error("no")

    findings = outcomes(math.inf, UNMADE, make)
    _, reason = next(findings), next(findings)
    assert reason.note.endswith("no")
    assert sessions[0]()
    assert not list(findings)
    assert not sessions[0]()


def test_after_a_lost_device_nothing_is_begun() -> None:
    def lost() -> Iterator[Finding]:
        yield Finding("model", "first")
        raise DeviceLost("cuda:0: illegal")

    findings = outcomes(math.inf, UNMADE, lost)
    assert next(findings).what == "first"
    assert next(findings).note == "failed: DeviceLost: cuda:0: illegal"
    with pytest.raises(DeviceLost):
        next(findings)
