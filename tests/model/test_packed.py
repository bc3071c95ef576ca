"""Packed weights are kept once for what they depend on, whole, and change no token."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from server.config import CPU
from server.engine.decoder import Logits
from server.errors import StartError
from server.model.folder import ModelFolder
from server.model.opening import open_cpu_decoder
from server.model.packed import NotPackedError, packed
from server.model.runtime import PACKED_WEIGHTS, open_session
from tests.model.tiny_folder import CONTEXT, tiny_folder

PROMPT = np.random.default_rng(0).integers(0, 270, 20)
PACKS = """
import logging, sys
from pathlib import Path
from server.model.folder import ModelFolder
from server.model.packed import packed
logging.basicConfig(level="INFO")
print(packed(ModelFolder.read(Path(sys.argv[1])), Path(sys.argv[2])).model_file)
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("packed") / "tiny", "int8")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> ModelFolder:
    """One that a test may change."""
    return ModelFolder.read(shutil.copytree(original, tmp_path / "model"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "new/cache"


def entries(place: Path) -> list[Path]:
    return [each.parent for each in place.glob("*/contents.json")]


def logits(folder: ModelFolder, packed_weights: Path | None) -> list[Logits]:
    """Of a prompt and of a few tokens after it."""
    decoder = open_cpu_decoder(
        folder, slots=1, context=CONTEXT, threads=1, packed_weights=packed_weights
    )
    rows = [decoder.prefill(0, 0, PROMPT)[0].copy()]
    for past in range(len(PROMPT), len(PROMPT) + 5):
        rows.append(decoder.decode([int(rows[-1].argmax())], [past])[0].copy())
    return rows


@pytest.mark.parametrize("weights", ["fp32", "int8", "int4"])
def test_packed_weights_change_no_bit(tmp_path: Path, place: Path, weights: str) -> None:
    folder = ModelFolder.read(tiny_folder(tmp_path / weights, weights))
    plain = logits(folder, None)
    for _ in ("packed", "found"):
        np.testing.assert_array_equal(logits(folder, place), plain)
    assert len(entries(place)) == 1


def test_both_graphs_take_their_weights_from_one_file(folder: ModelFolder, place: Path) -> None:
    found = packed(folder, place)
    assert found.mixed_file
    shutil.rmtree(folder.path)
    for graph in (found.model_file, found.mixed_file):
        open_session(graph, CPU, threads=1)
    found.model_file.with_name(PACKED_WEIGHTS).unlink()
    for graph in (found.model_file, found.mixed_file):
        with pytest.raises(StartError, match=PACKED_WEIGHTS):
            open_session(graph, CPU, threads=1)
    assert replace(found, model_file=folder.model_file, mixed_file=folder.mixed_file) == folder


def test_nobody_else_may_read_them(folder: ModelFolder, place: Path) -> None:
    entry = packed(folder, place).model_file.parent
    assert entry.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in entry.iterdir()} == {0o600}


def touch_weights(folder: ModelFolder) -> None:
    os.utime(folder.path / "model.onnx.data", ns=(0, 0))


def change_graph(folder: ModelFolder) -> None:
    model = ir.load(folder.model_file)
    model.doc_string = "changed"
    ir.save(model, folder.model_file)


@pytest.mark.parametrize("change", [touch_weights, change_graph])
def test_another_model_in_the_same_folder_is_packed_in_place_of_the_old(
    folder: ModelFolder, place: Path, change: Callable[[ModelFolder], None]
) -> None:
    before = packed(folder, place)
    assert packed(folder, place) == before
    change(folder)
    after = packed(folder, place)
    assert entries(place) == [after.model_file.parent] != [before.model_file.parent]


def test_another_processor_has_weights_of_its_own(
    folder: ModelFolder, place: Path, tmp_path: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    found = {packed(folder, place, cpuinfo).model_file}  # without a file, by what Python says
    for flags in ("avx2", "avx2 avx512f"):
        cpuinfo.write_text(f"processor\t: 0\ncpu MHz\t\t: 2600.123\nflags\t\t: {flags}\n")
        found.add(packed(folder, place, cpuinfo).model_file)
    cpuinfo.write_text(cpuinfo.read_text().replace("2600.123", "2599.9"))
    found.add(packed(folder, place, cpuinfo).model_file)
    assert len(found) == 3
    assert len(entries(place)) == 1


def test_without_a_word_about_the_processor_nothing_is_packed(
    folder: ModelFolder, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").touch()
    with pytest.raises(NotPackedError, match="does not say which processor"):
        packed(folder, place, tmp_path / "cpuinfo")


def truncated(entry: Path) -> None:
    os.truncate(entry / PACKED_WEIGHTS, 1000)


def without_a_graph(entry: Path) -> None:
    (entry / "mixed.onnx").unlink()


def without_contents(entry: Path) -> None:
    (entry / "contents.json").unlink()


def with_other_contents(entry: Path) -> None:
    (entry / "contents.json").write_text("[]")


@pytest.mark.parametrize(
    "damage", [truncated, without_a_graph, without_contents, with_other_contents]
)
def test_a_damaged_entry_is_made_anew(
    folder: ModelFolder, place: Path, damage: Callable[[Path], None]
) -> None:
    entry = packed(folder, place).model_file.parent
    sizes = {file.name: file.stat().st_size for file in entry.iterdir()}
    damage(entry)
    assert packed(folder, place).model_file.parent == entry
    assert {file.name: file.stat().st_size for file in entry.iterdir()} == sizes


def test_entries_of_folders_that_are_gone_go_too_and_nothing_else(
    original: Path, folder: ModelFolder, place: Path
) -> None:
    packed(folder, place)
    (place / "of somebody else").mkdir()
    kept = packed(ModelFolder.read(original), place)
    assert len(entries(place)) == 2
    shutil.rmtree(folder.path)
    touched = shutil.copytree(original, place / "another")
    newest = packed(ModelFolder.read(touched), place)
    assert {kept.model_file.parent, newest.model_file.parent} == set(entries(place))
    assert (place / "of somebody else").is_dir()


def test_of_two_processes_that_start_at_once_one_packs(folder: ModelFolder, place: Path) -> None:
    command = [sys.executable, "-P", "-c", PACKS, str(folder.path), str(place)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs, logs = zip(*(process.communicate() for process in processes), strict=True)
    assert [process.returncode for process in processes] == [0, 0]
    assert set(outputs) == {f"{entries(place)[0] / 'model.onnx'}\n"}
    assert "".join(logs).count("packing the weights for this processor") == 1


def other_weights(folder: ModelFolder) -> None:
    """Two layers have changed places."""
    assert folder.mixed_file
    model = ir.load(folder.mixed_file)
    values = model.graph.initializers
    first, second = (values[f"layers.{layer}.attention.qkv.integers"] for layer in range(2))
    first.const_value, second.const_value = second.const_value, first.const_value
    ir.save(model, folder.mixed_file)


def no_graph(folder: ModelFolder) -> None:
    assert folder.mixed_file
    folder.mixed_file.write_bytes(b"no graph")


def no_place(folder: ModelFolder) -> None:
    """A file is where the cache's parent should be."""
    (folder.path.parent / "new").touch()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (other_weights, "its two graphs are not of the same weights"),
        (no_graph, "mixed.onnx: ONNX Runtime cannot load it"),
        (no_place, "new/cache: Not a directory"),
    ],
)
def test_what_cannot_be_packed_is_run_plain_and_one_line_says_why(
    folder: ModelFolder,
    place: Path,
    caplog: pytest.LogCaptureFixture,
    fault: Callable[[ModelFolder], None],
    reason: str,
) -> None:
    plain = logits(folder, None)
    fault(folder)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(logits(folder, place), plain)
    [record] = caplog.records
    assert reason in record.getMessage()
    assert "\n" not in record.getMessage()
    assert not (place / ".unfinished").exists()
    assert entries(place) == []


def test_a_graph_that_does_not_open_from_the_cache_is_opened_plain(
    folder: ModelFolder, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = logits(folder, None)
    model = packed(folder, place).model_file
    size = model.stat().st_size
    model.write_bytes(bytes(size))
    assert json.loads(model.with_name("contents.json").read_text())["sizes"][model.name] == size
    np.testing.assert_array_equal(logits(folder, place), plain)
    assert "ONNX Runtime cannot load it" in caplog.text
