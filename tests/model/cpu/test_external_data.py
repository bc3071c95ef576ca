"""A model folder is input too: its weights may not come from outside of it."""

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

from server.errors import StartError
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder

GRAPH = """
<ir_version: 10, opset_import: ["" : 21]>
adds (float[4] x, float[4] weights) => (float[4] y) { y = Add(x, weights) }
"""
"""With external weights, and otherwise no decoder."""


def inside(folder: Path, outside: Path) -> str:
    (folder / "weights").write_bytes(outside.read_bytes())
    return "weights"


def inside_by_a_symbolic_link(folder: Path, outside: Path) -> str:
    (folder / "data").write_bytes(outside.read_bytes())
    (folder / "weights").symlink_to("data")
    return "weights"


def absolute(folder: Path, outside: Path) -> str:
    return str(outside)


def upwards(folder: Path, outside: Path) -> str:
    return f"../{outside.name}"


def down_and_upwards(folder: Path, outside: Path) -> str:
    (folder / "deep").mkdir()
    return f"deep/../../{outside.name}"


def a_symbolic_link(folder: Path, outside: Path) -> str:
    (folder / "weights").symlink_to(outside)
    return "weights"


def a_linked_folder(folder: Path, outside: Path) -> str:
    (folder / "deep").symlink_to(outside.parent)
    return f"deep/{outside.name}"


def refusal(place: Path, put: Callable[[Path, Path], str]) -> str:
    """Of a folder whose weights are where `put` says that it has put them."""
    outside = place / "outside"
    outside.write_bytes(bytes(16))
    folder = place / "folder"
    folder.mkdir()
    model = ir.from_onnx_text(GRAPH)
    weights = model.graph.inputs[1]
    weights.const_value = ir.ExternalTensor(
        put(folder, outside), 0, 16, ir.DataType.FLOAT, shape=ir.Shape([4]), name="weights"
    )
    model.graph.register_initializer(weights)
    ir.save(model, folder / "model.onnx")
    (folder / "config.json").write_text('{"max_position_embeddings": 8}')
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(StartError) as raised:
        CpuDecoder(ModelFolder.read(folder), slots=1, context=8, threads=1)
    return str(raised.value)


@pytest.mark.parametrize("put", [inside, inside_by_a_symbolic_link])
def test_weights_in_the_folder_are_loaded(tmp_path: Path, put: Callable[[Path, Path], str]) -> None:
    assert "has no inputs" in refusal(tmp_path, put)  # what this graph lacks once it is loaded


@pytest.mark.parametrize(
    "put", [absolute, upwards, down_and_upwards, a_symbolic_link, a_linked_folder]
)
def test_the_runtime_loads_nothing_from_outside(
    tmp_path: Path, put: Callable[[Path, Path], str]
) -> None:
    message = refusal(tmp_path, put)
    assert "ONNX Runtime cannot load it" in message
    assert "xternal data" in message
