"""`skiff doctor`, as a program: a table of what was found, and an exit code."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model_tools.export import export
from server.doctor import table
from server.findings import Finding, Mark
from tests.model_tools.tiny_gguf import TinyLlama


def doctor(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server", "doctor", *arguments],
        env={"PATH": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def row(output: str, what: str) -> str:
    [line] = [line for line in output.splitlines() if f" {what} " in line]
    return line


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("doctor")
    gguf = TinyLlama().write(place / "tiny.gguf")
    export(gguf, place / "cpu", verify=False)
    export(gguf, place / "fp16", target="cuda", verify=False)
    export(gguf, place / "bf16", target="cuda", weights="bf16", verify=False)
    return {name: place / name for name in ("cpu", "fp16", "bf16")}


def test_a_finding_is_a_line_and_its_meaning_the_next() -> None:
    lines = list(table([Finding(Mark.GOOD, "a", "b"), Finding(Mark.BAD, "long", "c", "d")]))
    assert lines[1:] == ["ok    a     b", "bad   long  c", "            d"]


def test_a_machine_without_cuda_is_fine_unless_cuda_is_asked_for() -> None:
    fine = doctor()
    assert (fine.returncode, fine.stderr) == (0, "")
    for what in ("python", "processor", "cores", "runtime", "driver"):
        assert row(fine.stdout, what)
    assert row(fine.stdout, "cuda:0").startswith("note  cuda:0")
    for asked in (doctor("--device", "cuda:1"), doctor(SKIFF_DEVICE="cuda:1")):
        assert asked.returncode == 1
        assert row(asked.stdout, "cuda:1").startswith("bad   cuda:1")
        assert "has no CUDA" in asked.stdout
    assert doctor("--device", "cpu").returncode == 0


@pytest.mark.parametrize(
    ("name", "made_for", "code", "mark"),
    [("cpu", "cpu", 0, "ok"), ("fp16", "cuda", 0, "ok"), ("bf16", "cuda", 1, "bad")],
)
def test_a_folder_is_tried_where_it_might_run(
    folders: dict[str, Path], name: str, made_for: str, code: int, mark: str
) -> None:
    run = doctor(folders[name])
    assert run.returncode == code
    assert f"made for {made_for}" in row(run.stdout, "folder")
    assert row(run.stdout, "folder, cpu").startswith(mark)


def test_a_folder_whose_tokenizer_is_none_is_bad(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(folders["cpu"], folder)
    assert row(doctor(folder).stdout, "tokenizer").startswith("ok")
    (folder / "tokenizer.json").write_text("{}")
    run = doctor(folder)
    assert run.returncode == 1
    assert row(run.stdout, "tokenizer").startswith("bad")
    assert row(run.stdout, "folder, cpu").startswith("ok")
    assert "not a tokenizer" in run.stdout


def test_wrong_arguments_are_one_line(tmp_path: Path) -> None:
    for arguments in ([tmp_path / "missing"], ["--device", "gpu"], ["--slots", "3"]):
        run = doctor(*arguments)
        assert run.returncode == 1
        assert run.stdout == ""
        assert run.stderr.startswith("skiff: ")
        assert run.stderr.count("\n") == 1
