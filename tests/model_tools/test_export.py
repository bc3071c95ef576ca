"""The whole export, from a GGUF file to a folder in its place, and everything that can go wrong."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model_tools import cli
from model_tools.export import export
from model_tools.gguf.source import GgufSource
from model_tools.progress import Progress
from model_tools.verification.reference import reference_logits
from server.errors import StartError
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder
from tests.model_tools.tiny_gguf import TinyLlama


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return TinyLlama().write(tmp_path / "source" / "tiny.gguf")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that holds nothing but what an export leaves in it."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def run(*arguments: str | Path, file_size: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with files of at most `file_size` bytes."""

    def limit() -> None:
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    return subprocess.run(
        [sys.executable, "-m", "model_tools", *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )


def assert_refused(outcome: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert that it printed exactly one line of error, which holds the words."""
    assert outcome.returncode == 1
    assert "Traceback" not in outcome.stderr
    errors = [line for line in outcome.stderr.splitlines() if not line.endswith(" ...")]
    assert len(errors) == 1
    assert errors[0].startswith("skiff-export: ")
    assert all(word in errors[0] for word in words)


def test_a_folder_serves_its_source(gguf: Path, place: Path) -> None:
    export(gguf, place / "model", weights="fp32")
    decoder = CpuDecoder(ModelFolder.read(place / "model"), slots=1, context=64, threads=1)
    text = np.arange(20, 60)
    [expected] = reference_logits(GgufSource.open(gguf), [text])
    logits = decoder.prefill(0, 0, text, logits_to_keep=0)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_the_same_source_gives_the_same_folder(gguf: Path, place: Path) -> None:
    for name in ("a", "b"):
        export(gguf, place / name, weights="int8", verify=False)
    assert names(place / "a") == names(place / "b")
    for file in (place / "a").iterdir():
        assert file.read_bytes() == (place / "b" / file.name).read_bytes()


@pytest.mark.parametrize(
    ("weights", "block_size"),
    [("fp32", None), ("int8", 32), ("int8", 128), ("int4", 32), ("int4", 128)],
)
def test_a_verified_folder_says_so(
    gguf: Path, place: Path, weights: str, block_size: int | None
) -> None:
    verification = export(gguf, place / "model", weights=weights, block_size=block_size)
    assert verification is not None
    assert "verification.json" in names(place / "model")


def test_to_even_out_what_is_not_rounded_is_refused(gguf: Path, place: Path) -> None:
    with pytest.raises(StartError, match="--equalise has no meaning for weights in fp32"):
        export(gguf, place / "model", weights="fp32", equalise=True)


def test_progress_counts_the_layers(gguf: Path, place: Path) -> None:
    seen: list[Progress] = []
    export(gguf, place / "model", report=seen.append)
    assert seen == [
        *(Progress("measuring channels", done, 2) for done in range(3)),
        *(Progress("writing layers", done, 2) for done in range(3)),
        *(Progress("verifying", done, 1) for done in range(2)),
    ]


def test_an_existing_folder_is_refused_and_left_alone(gguf: Path, place: Path) -> None:
    (place / "model").mkdir()
    (place / "model" / "model.onnx").write_text("mine")
    with pytest.raises(StartError, match="exists; --force replaces it"):
        export(gguf, place / "model", verify=False)
    assert names(place) == {"model"}
    assert (place / "model" / "model.onnx").read_text() == "mine"


@pytest.mark.parametrize("file", ["model.onnx", None], ids=["a model folder", "an empty folder"])
def test_force_replaces(gguf: Path, place: Path, file: str | None) -> None:
    (place / "model").mkdir()
    if file is not None:
        (place / "model" / file).write_text("old")
        (place / "model" / "other").write_text("old")
    export(gguf, place / "model", verify=False, force=True)
    assert names(place) == {"model"}
    assert "other" not in names(place / "model")
    ModelFolder.read(place / "model")


def test_force_replaces_nothing_but_a_model_folder(gguf: Path, place: Path) -> None:
    (place / "diary").write_text("dear")
    for taken in (place, place / "diary"):
        for force in (True, False):
            with pytest.raises(StartError, match="is not a model folder"):
                export(gguf, taken, verify=False, force=force)
    assert names(place) == {"diary"}


def test_force_does_not_remove_the_source(gguf: Path, place: Path) -> None:
    (gguf.parent / "model.onnx").write_text("old")
    with pytest.raises(StartError, match="holds the source"):
        export(gguf, gguf.parent, verify=False, force=True)
    assert gguf.exists()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("stage", ["writing layers", "verifying"])
def test_an_interrupted_export_leaves_no_trace(
    gguf: Path, place: Path, stage: str, force: bool
) -> None:
    if force:
        export(gguf, place / "model", verify=False)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}

    def interrupt(progress: Progress) -> None:
        if progress == Progress(stage, 1, progress.total):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(gguf, place / "model", weights="fp32", force=force, report=interrupt)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    assert names(place) == ({"model"} if force else set())


def test_an_interrupted_export_leaves_none_of_the_folders_that_it_made(
    gguf: Path, place: Path
) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    (place / "mine").mkdir()
    with pytest.raises(KeyboardInterrupt):
        export(gguf, place / "mine" / "new" / "newer" / "model", report=interrupt)
    assert [path.name for path in place.rglob("*")] == ["mine"]


def test_a_folder_that_appears_meanwhile_is_not_overwritten(gguf: Path, place: Path) -> None:
    def make(progress: Progress) -> None:
        (place / "model").mkdir(exist_ok=True)

    with pytest.raises(StartError, match="exists"):
        export(gguf, place / "model", verify=False, report=make)
    assert names(place) == {"model"}
    assert not names(place / "model")


def test_the_command_writes_a_folder_and_says_how_good_it_is(gguf: Path, place: Path) -> None:
    outcome = run(gguf, place / "model")
    assert outcome.returncode == 0
    assert outcome.stdout.count("mean KL") == 2
    assert outcome.stderr.splitlines() == [
        "measuring channels ...",
        "writing layers ...",
        "verifying ...",
    ]
    assert names(place) == {"model"}


def test_a_full_disk_is_one_line_and_no_trace(gguf: Path, place: Path) -> None:
    outcome = run(gguf, place / "model", file_size=10_000)
    assert_refused(outcome, str(place / "model"), "File too large")
    assert names(place) == set()


@pytest.mark.parametrize("where", ["GgufSource.open", "write_model"])
def test_too_little_memory_is_one_line_and_no_trace(
    gguf: Path, place: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError("Unable to allocate 32.0 GiB")

    monkeypatch.setattr(f"model_tools.export.{where}", fail)
    with pytest.raises(StartError, match=r"tiny\.gguf: there is too little memory .*it: Unable"):
        export(gguf, place / "model")
    assert names(place) == set()


def test_a_foreign_file_is_one_line_and_no_trace(place: Path, tmp_path: Path) -> None:
    (tmp_path / "foreign").write_text("not a model")
    assert_refused(run(tmp_path / "foreign", place / "model"), "foreign", "not a GGUF file")
    assert names(place) == set()


def test_a_file_that_is_cut_short_is_one_line_and_no_trace(gguf: Path, place: Path) -> None:
    gguf.write_bytes(gguf.read_bytes()[:-1000])
    assert_refused(run(gguf, place / "model"), str(gguf))
    assert names(place) == set()


def test_a_place_that_cannot_be_written_is_one_line(gguf: Path, place: Path) -> None:
    (place / "file").write_text("")
    assert_refused(run(gguf, place / "file" / "model"), f"{place / 'file'}: File exists")
    (place / "loop").symlink_to("loop")
    assert_refused(run(gguf, place / "loop"), f"{place / 'loop'} exists and is not a model folder")
    assert_refused(run(gguf, place / "loop" / "model"), f"{place / 'loop'}: File exists")
    long = place / ("x" * 250)  # allowed, but the temporary name is longer
    assert_refused(run(gguf, long), f"{long}: File name too long")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["SOURCE"]),
        (["a.gguf", "b", "--block-size", "33"], ["--block-size", "33"]),
        (["a.gguf", "b", "--weights", "int2"], ["--weights", "int2"]),
        (["a.gguf", "b", "--wieghts", "int8"], ["--wieghts"]),
        (["", "b"], ["SOURCE: must not be empty"]),
        (["a.gguf", ""], ["FOLDER: must not be empty"]),
    ],
)
def test_wrong_arguments_are_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["skiff-export", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    line = str(ended.value.code)
    assert line.startswith("skiff-export: ")
    assert "\n" not in line
    assert all(word in line for word in words)
