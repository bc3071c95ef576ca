"""Model folders with a tiny random model, and the same model behind other interfaces."""

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir

from model_tools.export import export
from tests.model_tools.tiny_gguf import TinyLlama

CONTEXT = 128


def tiny_folder(place: Path, weights: str) -> Path:
    """A new folder below `place`."""
    place.mkdir()
    gguf = TinyLlama(context_length=CONTEXT).write(place / "tiny.gguf")
    export(gguf, place / "model", weights=weights, verify=False)
    return place / "model"


def without_logits_to_keep(folder: Path) -> None:
    """Every call gives the logits of all its tokens, as in older exports."""
    _rewrite(folder, _forget_input)


def with_required_logits_to_keep(folder: Path) -> None:
    """An input like any other, without a value of its own."""
    _rewrite(folder, lambda graph: graph.initializers.pop("num_logits_to_keep"))


def with_position_ids(folder: Path) -> None:
    """The caller says where each token is."""
    _rewrite(folder, _take_positions)


def _rewrite(folder: Path, change: Callable[[ir.Graph], object]) -> None:
    model = ir.load(folder / "model.onnx")
    change(model.graph)
    ir.save(model, folder / "model.onnx")


def _forget_input(graph: ir.Graph) -> None:
    [value] = [value for value in graph.inputs if value.name == "num_logits_to_keep"]
    graph.inputs.remove(value)


def _take_positions(graph: ir.Graph) -> None:
    shape = ir.Shape(["batch", "sequence"])
    positions = ir.Value(name="position_ids", shape=shape, type=ir.TensorType(ir.DataType.INT64))
    graph.inputs.append(positions)
    for node in graph:
        if node.op_type == "GroupQueryAttention":
            node.resize_inputs(10)
            node.replace_input_with(9, positions)
