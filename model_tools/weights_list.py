"""`weights.json`: what lies where in the data file of a folder's graphs, for who shares it between
them. Knows onnx-ir's tensors."""

import json
from pathlib import Path

import onnx_ir as ir

from server.model.weights_file import LIST


def write_weights_list(folder: Path, model: ir.Model) -> None:
    """Of a model whose weights lie in one file beside it."""
    tensors = [value.const_value for value in model.graph.initializers.values()]
    weights = [tensor for tensor in tensors if isinstance(tensor, ir.ExternalTensor)]
    [data] = {weight.location for weight in weights}
    listed = [
        {
            "name": weight.name,
            "dtype": weight.dtype.numpy().name,
            "shape": list(weight.shape.numpy()),
            "offset": weight.offset,
        }
        for weight in weights
    ]
    document = {"data": str(data), "weights": listed}
    (folder / LIST).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
