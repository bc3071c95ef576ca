"""A graph under construction: nodes are kept in memory, weights go to the data file at once.

Knows onnx-ir; knows nothing of a decoder.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from model_tools.graph.data_file import DataFile
from model_tools.graph.node_writer import MICROSOFT, NodeWriter
from model_tools.weights.slabs import by_slabs
from server.errors import StartError

OPSET = 21
"""The version of ONNX's own operators."""
IR_VERSION = 10


class GraphWriter(NodeWriter):
    """Records inputs, outputs, weights and nodes of a new graph, in the order of computation."""

    def __init__(
        self,
        data: DataFile,
        float_type: ir.DataType = ir.DataType.FLOAT,
        opset: int = OPSET,
    ) -> None:
        opsets = {"": opset, MICROSOFT: 1}
        super().__init__(ir.Graph([], [], nodes=[], opset_imports=opsets, name="decoder"))
        self.float_type = float_type
        """What the graph computes in."""
        self._data = data

    def weight(self, name: str, array: NDArray[Any]) -> ir.Value:
        """An initializer whose array is written to the data file and not kept."""
        return self._tape.initializer(self._data.write(name, array))

    def floats(self, name: str, array: NDArray[np.float32]) -> ir.Value:
        """An initializer of the type that the graph computes in; raises `StartError` where the
        type's range is too small."""
        narrow = np.empty(array.shape, self.float_type.numpy())

        def convert(rows: slice) -> bool:
            with np.errstate(over="ignore"):
                narrow[rows] = array[rows]
            return bool(np.isfinite(narrow[rows]).all())

        if not all(by_slabs(convert, len(array))):
            raise StartError(f"{name} has numbers that {self.float_type.name} cannot hold")
        return self.weight(name, narrow)

    def reshaped(self, weight: ir.Value, name: str, shape: Sequence[int]) -> ir.Value:
        """A second initializer of the same bytes of the data file with another shape."""
        tensor = weight.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            raise TypeError(f"{weight.name} is not in the data file")
        return self._tape.initializer(
            ir.ExternalTensor(
                tensor.location,
                tensor.offset,
                tensor.length,
                tensor.dtype,
                shape=ir.Shape(shape),
                name=name,
            )
        )

    def model(self) -> ir.Model:
        """The finished model."""
        return ir.Model(self._graph, ir_version=IR_VERSION, producer_name="skiff")
