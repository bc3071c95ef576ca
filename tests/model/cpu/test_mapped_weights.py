"""What graphs have in other files is mapped as they declare it; what is unusual is left out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from server.model.cpu.external_tensors import external_tensors
from server.model.cpu.mapped_weights import MappedWeights
from tests.model.tiny_folder import tiny_folder

BYTES = bytes(range(40))


def external(
    name: str = "first",
    *,
    kind: ir.DataType = ir.DataType.FLOAT,
    shape: tuple[int, ...] = (2, 3),
    offset: int | None = 8,
    location: str = "data",
) -> ir.ExternalTensor:
    return ir.ExternalTensor(location, offset, None, kind, shape=ir.Shape(shape), name=name)


def graph(folder: Path, *tensors: ir.TensorProtocol) -> Path:
    """One with these initializers beside a file of 40 bytes."""
    (folder / "data").write_bytes(BYTES)
    values = [ir.Value(name=each.name, const_value=each) for each in tensors]
    nothing = ir.Graph([], [], nodes=[], initializers=values, opset_imports={"": 21}, name="g")
    ir.save(ir.Model(nothing, ir_version=10), folder / "model.onnx")
    return folder / "model.onnx"


def test_arrays_are_those_of_the_file(tmp_path: Path) -> None:
    second = external("second", kind=ir.DataType.UINT8, shape=(4,), offset=32)
    at_the_beginning = external("third", shape=(), offset=None)
    inside = ir.tensor(np.ones(3, np.float32), name="inside")
    file = graph(tmp_path, external(), second, at_the_beginning, inside)
    mapped = MappedWeights()
    arrays = mapped.of(file)
    assert list(arrays) == ["first", "second", "third"]
    for _ in ("read", "forgotten"):
        expected = np.frombuffer(BYTES[8:32], np.float32).reshape(2, 3)
        np.testing.assert_array_equal(arrays["first"], expected)
        assert arrays["second"].tolist() == [32, 33, 34, 35]
        assert arrays["third"] == np.frombuffer(BYTES[:4], np.float32)[0]
        mapped.forget()
    with pytest.raises(ValueError, match="read-only"):
        arrays["second"][0] = 1


@pytest.mark.parametrize("weights", ["fp32", "int8", "int4"])
def test_all_that_an_export_has_outside_of_its_graph_is_found(tmp_path: Path, weights: str) -> None:
    file = tiny_folder(tmp_path / "tiny", weights) / "model.onnx"
    arrays = MappedWeights().of(file)
    tensors = [each.const_value for each in ir.load(file).graph.initializers.values()]
    outside = [tensor for tensor in tensors if isinstance(tensor, ir.ExternalTensor)]
    assert [tensor.name for tensor in outside] == list(arrays)
    for tensor, array in zip(outside, arrays.values(), strict=True):
        np.testing.assert_array_equal(array, tensor.numpy())
        assert array.dtype == tensor.numpy().dtype


@pytest.mark.parametrize(
    "unusual",
    [
        external("other", kind=ir.DataType.DOUBLE, shape=(1,)),
        external("other", offset=6, shape=(1,)),
    ],
    ids=["a type of no weights", "between two numbers"],
)
def test_others_are_there_without_what_is_unusual(
    tmp_path: Path, unusual: ir.ExternalTensor
) -> None:
    assert list(MappedWeights().of(graph(tmp_path, external(), unusual))) == ["first"]


@pytest.mark.parametrize(
    "wrong",
    [
        external(offset=20),
        external(offset=-8),
        external(offset=2**62),
        external(shape=(2**62, 2**62)),
        external(shape=(1,) * 70),
        external(location="none"),
        external(location="."),
        external(location="d\0"),
        external(location="circle"),
    ],
    ids=[
        "too long",
        "before its beginning",
        "far off",
        "huge",
        "deep",
        "no file",
        "a folder",
        "no name",
        "a circle",
    ],
)
def test_a_file_that_does_not_hold_it_is_left_to_the_runtime(
    tmp_path: Path, wrong: ir.ExternalTensor
) -> None:
    (tmp_path / "circle").symlink_to("circle")
    assert MappedWeights().of(graph(tmp_path, wrong)) == {}


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
    (tmp_path / "outside").write_bytes(BYTES)
    folder = tmp_path / "folder"
    folder.mkdir()
    assert MappedWeights().of(graph(folder, external(location=way(folder)))) == {}


def test_a_folder_of_links_is_that_of_what_they_lead_to(tmp_path: Path) -> None:
    """As Hugging Face's cache has it."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    file = graph(blobs, external())
    (snapshot / "model.onnx").symlink_to(file)
    (snapshot / "data").symlink_to(blobs / "data")
    assert list(MappedWeights().of(snapshot / "model.onnx")) == ["first"]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_half_a_graph_is_no_graph(tmp_path: Path, cut: int) -> None:
    file = graph(tmp_path, external())
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert MappedWeights().of(file) == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"no graph", b"\x3a\xff", b"\x38\x01", b"\x3a\x02\x28\x01", b"\x38" + b"\xff" * 11],
    ids=["empty", "text", "cut", "number for graph", "number for tensor", "endless number"],
)
def test_what_is_no_graph_has_no_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert MappedWeights().of(tmp_path / "model.onnx") == {}


def test_what_lies_in_the_graph_is_not_looked_for_outside(tmp_path: Path) -> None:
    """Although the graph says where, too."""
    file = graph(tmp_path, external())
    outside, inside = b"\x70\x01", b"\x70\x00"
    whole = file.read_bytes()
    assert whole.count(outside) == 1
    file.write_bytes(whole.replace(outside, inside))
    assert external_tensors(file) == []


def test_numbers_are_read_together_and_apart(tmp_path: Path) -> None:
    """The sizes of a shape: writers of protobuf do the one or the other."""
    file = graph(tmp_path, external(shape=(2, 300)))
    apart, together = b"\x08\x02\x08\xac\x02", b"\x0a\x03\x02\xac\x02"
    whole = file.read_bytes()
    assert whole.count(apart) == 1
    file.write_bytes(whole.replace(apart, together))
    [tensor] = external_tensors(file)
    assert tensor.shape == (2, 300)
