"""What `--plot` draws, and what it says beforehand where it cannot."""

import os
import re
from pathlib import Path

import pytest

from model_tools.bench import cli
from model_tools.bench.report import plot
from model_tools.bench.report.saved import load
from model_tools.bench.report.series import Better, Of, Series
from server.errors import StartError
from tests.model_tools.bench.fake_server import fake_server


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_a_run_is_drawn_and_kept(
    suffix: str, magic: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing, kept = tmp_path / f"run{suffix}", tmp_path / "run.json"
    short = ["--words", "5", "--new-tokens", "4", "--requests", "4", "--concurrency", "1,2"]
    with fake_server() as (url, _):
        cli.main(["serve", url, *short, "--plot", str(drawing), "--save", str(kept)])
    assert drawing.read_bytes().startswith(magic)
    series = load(kept).series
    assert [each.at for each in series if each.measure == plot.THROUGHPUT] == [1, 2]
    assert {len(each.samples) for each in series if each.measure == "time to first token"} == {4}


def test_what_cannot_be_drawn_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="must end in one of"):
        plot.check(tmp_path / "run.xyz")


@pytest.mark.parametrize("flag", ["--plot", "--save"])
@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("missing/run.png", "no such folder"),
        ("folder.png", "is a folder"),
        ("x" * 300, "File name too long"),
        ("loop.png", "Too many levels of symbolic links"),
        pytest.param(
            "kept.png",
            "may not be written",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere"),
        ),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_measured(
    tmp_path: Path, flag: str, file: str, reason: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "kept.png").touch(mode=0o400)
    (tmp_path / "loop.png").symlink_to("loop.png")
    nobody = "http://127.0.0.1:1"
    with pytest.raises(SystemExit, match=f"{re.escape(file)}: {reason}$"):
        cli.main(["serve", nobody, flag, str(tmp_path / file)])


def test_a_load_without_answers_is_not_drawn(tmp_path: Path) -> None:
    nothing = Series("8 clients", "skiff", plot.THROUGHPUT, Better.HIGHER, Of.ROUND, (), 8)
    plot.draw([nothing], tmp_path / "run.png")
    assert (tmp_path / "run.png").exists()


def test_without_matplotlib_the_line_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot, "Figure", None)
    with pytest.raises(StartError, match=r"skiff-llm\[plot\]"):
        plot.check(tmp_path / "run.png")
