"""The list of weights says what lies where in one file, and what it may not say is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from server.errors import StartError
from server.model.weights_file import LIST, WeightsFile
from tests.model.tiny_folder import tiny_folder

FIRST = {"name": "first", "dtype": "float32", "shape": [2, 3], "offset": 8}
SECOND = {"name": "second", "dtype": "uint8", "shape": [4], "offset": 32}


def write(folder: Path, document: object, data: bytes = bytes(range(36))) -> Path:
    """The list; the file is 36 bytes."""
    (folder / "data").write_bytes(data)
    (folder / LIST).write_text(json.dumps(document))
    return folder / LIST


def test_what_is_listed_is_read(tmp_path: Path) -> None:
    listing = write(tmp_path, {"data": "data", "weights": [FIRST, SECOND]})
    file = WeightsFile(listing)
    for _ in ("read", "forgotten"):
        assert list(file.arrays) == ["first", "second"]
        expected = np.frombuffer(bytes(range(8, 32)), np.float32).reshape(2, 3)
        np.testing.assert_array_equal(file.arrays["first"], expected)
        assert file.arrays["second"].tolist() == [32, 33, 34, 35]
        file.forget()


def test_nobody_writes_to_them(tmp_path: Path) -> None:
    file = WeightsFile(write(tmp_path, {"data": "data", "weights": [SECOND]}))
    with pytest.raises(ValueError, match="read-only"):
        file.arrays["second"][0] = 1


@pytest.mark.parametrize("weights", ["fp32", "int8", "int4"])
def test_an_export_lists_what_its_graphs_have(tmp_path: Path, weights: str) -> None:
    folder = tiny_folder(tmp_path / "tiny", weights)
    arrays = WeightsFile(folder / LIST).arrays
    for graph in ("model.onnx", "mixed.onnx"):
        values = ir.load(folder / graph).graph.initializers
        external = {
            name: value.const_value.numpy()
            for name, value in values.items()
            if isinstance(value.const_value, ir.ExternalTensor)
        }
        assert external.keys() == arrays.keys()
        for name, array in external.items():
            np.testing.assert_array_equal(arrays[name], array)
            assert arrays[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "is no list of weights"),
        ({}, "KeyError\\('data'\\)"),
        ({"data": "data"}, "KeyError\\('weights'\\)"),
        ({"data": 1, "weights": []}, "is no list of weights"),
        ({"data": "data", "weights": [{**FIRST, "name": None}]}, "None of type float32"),
        ({"data": "data", "weights": [{**FIRST, "dtype": "object"}]}, "first of type object"),
        ({"data": "data", "weights": [{**FIRST, "dtype": ["float32"]}]}, "is no list of weights"),
        ({"data": "data", "weights": [{**FIRST, "shape": [2, -3]}]}, r"of shape \[2, -3\] at 8"),
        ({"data": "data", "weights": [{**FIRST, "shape": [2.0]}]}, r"of shape \[2.0\] at 8"),
        ({"data": "data", "weights": [{**FIRST, "shape": 6}]}, "is no list of weights"),
        ({"data": "data", "weights": [{**FIRST, "offset": 16}]}, "ends at byte 40 of 36"),
        ({"data": "data", "weights": [{**FIRST, "shape": [2**62, 2**62]}]}, "ends at byte"),
        ({"data": "none", "weights": []}, "none: No such file or directory"),
        ({"data": ".", "weights": []}, "lies outside of the folder"),
    ],
)
def test_another_list_is_refused(tmp_path: Path, document: object, reason: str) -> None:
    assert_refused(write(tmp_path, document), reason)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    listing = write(tmp_path, {"data": "data", "weights": []}, b"")
    assert_refused(listing, "cannot mmap an empty file")


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / LIST).write_bytes(b"\xff")
    assert_refused(tmp_path / LIST, "is no list of weights")


def upwards(folder: Path) -> str:
    return "../outside"


def absolute(folder: Path) -> str:
    return str(folder.parent / "outside")


def linked(folder: Path) -> str:
    (folder / "link").symlink_to("../outside")
    return "link"


@pytest.mark.parametrize("way", [upwards, absolute, linked])
def test_a_file_outside_of_the_folder_is_not_opened(
    tmp_path: Path, way: Callable[[Path], str]
) -> None:
    (tmp_path / "outside").write_bytes(bytes(36))
    folder = tmp_path / "folder"
    folder.mkdir()
    document: dict[str, Any] = {"data": way(folder), "weights": [FIRST]}
    assert_refused(write(folder, document), "lies outside of the folder")


def assert_refused(listing: Path, reason: str) -> None:
    with pytest.raises(StartError, match=reason) as raised:
        WeightsFile(listing)
    assert str(raised.value).startswith(f"{listing.parent}")
    assert "\n" not in str(raised.value)
