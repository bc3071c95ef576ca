"""Where the cache is, and that one process at a time adds to it."""

import threading
from pathlib import Path

import pytest

from model_tools.cache import cache_folder, exclusive_workspace


def nobody_waits() -> None:
    pytest.fail("nobody else has the lock")


def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache/skiff"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative, and so to be ignored")
    assert cache_folder() == tmp_path / ".cache/skiff"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere/skiff"


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    with exclusive_workspace(tmp_path / "new/place", nobody_waits) as workspace:
        left = workspace / "left"
    workspace.mkdir()
    left.touch()
    with exclusive_workspace(tmp_path / "new/place", nobody_waits) as workspace:
        assert list(workspace.iterdir()) == []
    assert not workspace.exists()


def test_one_waits_for_the_other_and_says_so(tmp_path: Path) -> None:
    waits, has_left = threading.Event(), threading.Event()
    order = []

    def second() -> None:
        with exclusive_workspace(tmp_path, waits.set):
            order.append("second")
            has_left.set()

    with exclusive_workspace(tmp_path, nobody_waits):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(30)
        order.append("first")
    assert has_left.wait(30)
    thread.join()
    assert order == ["first", "second"]
