"""A graph that cannot be driven is refused when it is opened, in one line that says why."""

from pathlib import Path

import onnx_ir as ir
import pytest

from server.errors import StartError
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder
from tests.model.tiny_folder import tiny_folder


def open_decoder(folder: Path) -> CpuDecoder:
    return CpuDecoder(ModelFolder.read(folder), slots=2, context=64, threads=1)


FOREIGN = """
<ir_version: 10, opset_import: ["" : 21]>
foreign (
    int64[batch, sequence] input_ids,
    float[batch, 2, past, 16] "past_key_values.0.key"
) => (
    float[batch, sequence, 8] logits,
    float[batch, 2, past, 16] "present.0.key"
) {
    shape = Constant<value_ints = [8, 8]>()
    table = ConstantOfShape(shape)
    logits = Gather(table, input_ids)
    "present.0.key" = Identity("past_key_values.0.key")
}
"""
"""An interface that could be driven."""


STATELESS = """
<ir_version: 10, opset_import: ["" : 21]>
stateless (int64[batch, sequence] input_ids) => (float[batch, sequence, 8] logits) {
    shape = Constant<value_ints = [8, 8]>()
    table = ConstantOfShape(shape)
    logits = Gather(table, input_ids)
}
"""
GROWING = FOREIGN.replace(
    '"present.0.key" = Identity("past_key_values.0.key")',
    """one = Slice("past_key_values.0.key", zero, next, axis)
    "present.0.key" = Concat<axis = 2>("past_key_values.0.key", one)""",
).replace(
    "shape =",
    """zero = Constant<value_ints = [0]>()
    next = Constant<value_ints = [1]>()
    axis = Constant<value_ints = [2]>()
    shape =""",
)
"""Copies what is past in each call, as exports without GroupQueryAttention do."""


def test_the_plainest_interface_is_driven(tmp_path: Path) -> None:
    write(tmp_path, FOREIGN)
    assert open_decoder(tmp_path).vocabulary_size == 8


@pytest.mark.parametrize(
    ("there", "instead", "reason"),
    [
        ("input_ids", "tokens", "input `tokens` is unknown"),
        ("past_key_values.0.key", "pixels", "no inputs `past_key_values.*`"),
        ("int64[batch, sequence] input_ids", "int32[batch, sequence] input_ids", "int64"),
        ("[batch, 2, past, 16]", "[batch, heads, past, 16]", "past_key_values.0.key"),
        ("[batch, 2, past, 16]", "[batch, past, 16]", "past_key_values.0.key"),
        ("[batch, 2, past, 16]", "[batch, 2, 16, past]", "past_key_values.0.key"),
        ("float[batch, 2,", "double[batch, 2,", "past_key_values.0.key"),
        ("present.0.key", "key", "present.0.key"),
        ("logits", "hidden", "no float32 output `logits`"),
        ("logits = Gather(table", "wide = Gather(table", "ONNX Runtime cannot load it"),
        (FOREIGN, STATELESS, "no inputs `past_key_values.*`"),
        (FOREIGN, GROWING, "shape"),
    ],
)
def test_a_foreign_graph_is_refused(tmp_path: Path, there: str, instead: str, reason: str) -> None:
    assert there in FOREIGN
    write(tmp_path, FOREIGN.replace(there, instead))
    assert reason in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x0a" * 100])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, FOREIGN)
    (tmp_path / "model.onnx").write_bytes(content)
    assert "ONNX Runtime cannot load it" in refusal(tmp_path)


@pytest.mark.parametrize("size", [None, 0, 1000])
def test_weights_that_are_not_there_are_missed(tmp_path: Path, size: int | None) -> None:
    folder = tiny_folder(tmp_path / "tiny", "fp32")
    weights = folder / "model.onnx.data"
    rest = weights.read_bytes()[:size]
    weights.unlink()
    if size is not None:
        weights.write_bytes(rest)
    assert "ONNX Runtime cannot load it" in refusal(folder)


def write(folder: Path, graph: str) -> None:
    """A model folder with this graph."""
    ir.save(ir.from_onnx_text(graph), folder / "model.onnx")
    (folder / "config.json").write_text('{"max_position_embeddings": 128}')
    (folder / "tokenizer.json").write_text("{}")


def refusal(folder: Path) -> str:
    """The one line."""
    with pytest.raises(StartError) as raised:
        open_decoder(folder)
    message = str(raised.value)
    assert message.startswith(f"{folder / 'model.onnx'}: ")
    assert len(message.splitlines()) == 1
    return message
