"""What `--plot` draws, and what it says beforehand where it cannot."""

from pathlib import Path

import pytest

from model_tools.bench import cli
from model_tools.bench.report import plot
from model_tools.bench.report.saved import load
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


@pytest.mark.parametrize(
    ("name", "reason"), [("run.xyz", "must end in one of"), ("missing/run.png", "no such folder")]
)
def test_what_cannot_be_drawn_is_said_at_once(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(StartError, match=reason):
        plot.check(tmp_path / name)


def test_without_matplotlib_the_line_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot, "Figure", None)
    with pytest.raises(StartError, match=r"skiff-llm\[plot\]"):
        plot.check(tmp_path / "run.png")
