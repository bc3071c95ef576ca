"""What a report's header says of the machine and of the program."""

import os
import subprocess
from pathlib import Path

import pytest

from model_tools.bench import machine
from server.errors import StartError


def test_a_graph_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"no graph")
    with pytest.raises(StartError, match=r"^.*model\.onnx: cannot be read as ONNX: [^\n]*$"):
        machine.weights(file)


def test_the_commit_is_that_of_a_tree_that_holds_skiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not that of a project in whose folder Skiff is installed."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)  # noqa: S607 the PATH's

    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # a hook's repository, for one
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "nobody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "nobody@example.com")
    file = tmp_path / "machine.py"
    file.touch()
    monkeypatch.setattr(machine, "__file__", str(file))
    assert machine.commit() == ""
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message=another project's")
    assert machine.commit() == ""
    git("add", file.name)
    git("commit", "--quiet", "--message=ours")
    name = machine.commit()
    assert name.startswith(" (commit ")
    file.write_text("changed")
    assert machine.commit() == name.replace(")", "-dirty)")
