"""Runs that are kept, and `skiff-bench compare` on two of them."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_tools.bench import cli
from model_tools.bench.report.report import Report
from model_tools.bench.report.saved import load, save
from model_tools.bench.report.series import Better, Of, Series
from model_tools.bench.report.significance import LEVEL, chance, enough
from server.errors import StartError

Figures = tuple[float, ...]
FAST, SLOW = (10.0, 10.1, 9.9, 10.2, 9.8), (8.0, 8.1, 7.9, 8.2, 7.8)


def rates(
    samples: Figures, *, subject: str = "skiff", better: Better = Better.HIGHER, of: Of = Of.ROUND
) -> Series:
    return Series("tg128", subject, "t/s", better, of, samples, at=None)


def report(*series: Series, commit: str = "1") -> Report:
    return Report("engine", {"processor": "an abacus", "commit": commit}, (), series)


def compared(
    first: Report, second: Report, place: Path, capsys: pytest.CaptureFixture[str]
) -> list[dict[str, object]]:
    save(first, place / "a.json")
    save(second, place / "b.json")
    cli.main(["compare", str(place / "a.json"), str(place / "b.json"), "-o", "json"])
    [rows] = json.loads(capsys.readouterr().out)["tables"].values()
    return list(rows)


figures = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5).map(tuple)


@given(
    samples=figures,
    better=st.sampled_from(Better),
    of=st.sampled_from(Of),
    at=st.none() | st.floats(0, 100),
)
def test_what_was_saved_is_read_again(
    tmp_path_factory: pytest.TempPathFactory,
    samples: Figures,
    better: Better,
    of: Of,
    at: float | None,
) -> None:
    file = tmp_path_factory.mktemp("saved") / "run.json"
    before = report(Series("8 clients", "a", "gap", better, of, samples, at))
    save(before, file)
    assert load(file) == before


@pytest.mark.parametrize(
    ("samples", "better", "verdict"),
    [
        (SLOW, Better.HIGHER, "worse"),
        (SLOW, Better.LOWER, "better"),
        (FAST, Better.HIGHER, "the same"),
        (SLOW[:3], Better.HIGHER, "unknown: too few"),
    ],
)
def test_a_figure_is_judged(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    samples: Figures,
    better: Better,
    verdict: str,
) -> None:
    first, second = rates(FAST, better=better), rates(samples, better=better)
    [row] = compared(report(first), report(second), tmp_path, capsys)
    assert row["B is"] == verdict
    assert row["B / A"] == pytest.approx(np.mean(samples) / np.mean(FAST))


@pytest.mark.parametrize("of", [Of.GAP, Of.REQUEST])
def test_one_subject_may_have_another_name_and_only_rounds_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], of: Of
) -> None:
    first = report(rates(FAST, subject="localhost:1"), rates(FAST, subject="localhost:1", of=of))
    [row] = compared(first, report(rates(SLOW, subject="localhost:2")), tmp_path, capsys)
    assert row["subject"] == "localhost:2"


def test_several_subjects_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = report(rates(FAST), rates(SLOW, subject="genai"))
    rows = compared(both, both, tmp_path, capsys)
    assert [(row["subject"], row["B / A"]) for row in rows] == [("skiff", 1), ("genai", 1)]


def test_a_subject_is_found_beside_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run by itself, against one in turns with a peer."""
    alone, beside = report(rates(FAST)), report(rates(SLOW), rates(FAST, subject="genai"))
    [row] = compared(alone, beside, tmp_path, capsys)
    assert (row["subject"], row["B is"]) == ("skiff", "worse")


def test_one_number_throughout_is_no_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = Series("tg128", "skiff", "requests refused", Better.LOWER, Of.ROUND, (0.0,) * 5)
    [row] = compared(report(rates(FAST), nothing), report(rates(SLOW), nothing), tmp_path, capsys)
    assert row["figure"] == "t/s"
    some = replace(nothing, samples=(5.0, 6.0, 5.0, 7.0, 5.0))
    _, row = compared(report(rates(FAST), nothing), report(rates(FAST), some), tmp_path, capsys)
    assert (row["figure"], row["B is"]) == ("requests refused", "worse")


def test_the_header_shows_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(report(rates(FAST), commit="1"), tmp_path / "a")
    save(report(rates(FAST), commit="2"), tmp_path / "b")
    cli.main(["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert capsys.readouterr().out.startswith("processor: an abacus\ncommit: 1 -> 2\n")


def test_runs_without_a_common_figure_are_one_line(tmp_path: Path) -> None:
    save(report(rates(FAST)), tmp_path / "a")
    save(report(), tmp_path / "b")
    with pytest.raises(SystemExit, match=r"^skiff-bench: [^\n]* have no figure in common$"):
        cli.main(["compare", str(tmp_path / "a"), str(tmp_path / "b")])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("no JSON", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[1]", "was not written by --save"),
        ('{"format": "skiff-bench 1", "command": "engine", "header": {}}', "is damaged"),
        (
            '{"format": "skiff-bench 1", "command": "", "header": {}, "series": [{"test": 1}]}',
            "is damaged",
        ),
    ],
)
def test_a_file_that_is_no_run_is_one_line(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(content)
    with pytest.raises(StartError, match=reason):
        load(file)
    with pytest.raises(StartError, match="cannot be written"):
        save(report(), tmp_path / "missing" / "run.json")


HTTP = ["http", "-r", "1", "-n", "1"]


def test_a_run_whose_report_nobody_reads_is_kept(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "model_tools.bench", *HTTP, "--save", str(tmp_path / "run")]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.DEVNULL, check=False)
    os.close(writer)
    assert ended.returncode == -signal.SIGPIPE
    assert load(tmp_path / "run").command == "http"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_run_that_cannot_be_kept_is_reported_nevertheless(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="cannot be written: No space left on device"):
        cli.main([*HTTP, "--save", "/dev/full"])
    assert "microseconds of one core" in capsys.readouterr().out


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"run\.json: No such file or directory$"):
        load(tmp_path / "run.json")


def test_the_chance_of_few_figures_is_exact() -> None:
    """Of the 252 ways to deal, the true one and its mirror are furthest apart."""
    assert chance(FAST, SLOW) == pytest.approx(2 / math.comb(10, 5))
    assert chance(FAST, FAST) == 1


def test_many_figures_of_one_kind_are_rarely_told_apart() -> None:
    source = np.random.default_rng(0)

    def drawn(mean: float = 0) -> list[float]:
        return list(map(float, source.normal(mean, size=15)))

    chances = [chance(drawn(), drawn()) for _ in range(20)]
    assert sum(each <= LEVEL for each in chances) <= 2
    assert chance(drawn(), drawn(mean=2)) <= LEVEL


def test_five_against_five_are_enough_and_four_against_four_are_not() -> None:
    assert enough(FAST, SLOW)
    assert not enough(FAST[:4], SLOW[:4])


def test_a_figure_that_is_no_number_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    save(report(rates((1.0, float("nan")))), file)
    with pytest.raises(SystemExit, match=r"^skiff-bench: .*run\.json: is damaged: .*no finite"):
        cli.main(["compare", str(file), str(file)])
