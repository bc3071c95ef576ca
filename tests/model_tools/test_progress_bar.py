"""What `skiff-export` shows while it works."""

import io

import pytest

from model_tools.progress import steps
from model_tools.progress_bar import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work() -> None:
    with ProgressBar() as report:
        for stage in ("first", "second"):
            done = steps(report, stage, total=3)
            for _ in range(3):
                done()


def test_a_terminal_shows_a_full_bar_for_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    work()
    lines = terminal.getvalue().splitlines()
    for stage in ("first", "second"):
        assert any(line.startswith(stage) and "3/3" in line for line in lines)


def test_a_file_gets_one_line_for_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    work()
    assert file.getvalue() == "first ...\nsecond ...\n"
