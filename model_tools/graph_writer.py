"""A graph under construction: nodes are kept in memory, weights go to the data file at once.

Knows onnx-ir; knows nothing of a decoder.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from model_tools.data_file import DataFile
from server.errors import StartError

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""
OPSET = 21
"""ONNX's own operators."""
IR_VERSION = 10

Shape = Sequence[int | str]
"""A string names a dimension that is known when the graph runs."""
Attributes = Mapping[str, int | float | str]


class GraphWriter:
    """Records inputs, outputs, weights and nodes in the order of computation."""

    def __init__(
        self,
        data: DataFile,
        float_type: ir.DataType = ir.DataType.FLOAT,
        opset: int = OPSET,
    ) -> None:
        self.float_type = float_type
        """What the graph computes in."""
        self._opset = opset
        self._data = data
        self._tape = ir.tape.Tape()
        self._inputs: list[ir.Value] = []
        self._outputs: list[ir.Value] = []

    def input(self, name: str, dtype: ir.DataType, shape: Shape) -> ir.Value:
        """An input of the graph."""
        value = ir.val(name, dtype, list(shape))
        self._inputs.append(value)
        return value

    def optional_input(self, name: str, default: int) -> ir.Value:
        """An int64 scalar input that has an initializer: who does not feed it gets the default."""
        value = self.constant(name, default)
        self._inputs.append(value)
        return value

    def output(self, value: ir.Value, shape: Shape, dtype: ir.DataType = ir.DataType.FLOAT) -> None:
        """Makes a value an output of the graph."""
        value.dtype = dtype
        value.shape = ir.Shape(shape)
        self._outputs.append(value)

    def weight(self, name: str, array: NDArray[Any]) -> ir.Value:
        """An initializer whose array is written to the data file and not kept."""
        return self._tape.initializer(self._data.write(name, array))

    def floats(self, name: str, array: NDArray[np.float32]) -> ir.Value:
        """An initializer of the type that the graph computes in; raises `StartError` where its
        range is too small."""
        with np.errstate(over="ignore"):
            narrow = array.astype(self.float_type.numpy())
        if not np.isfinite(narrow).all():
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

    def constant(self, name: str, integers: int | Sequence[int]) -> ir.Value:
        """A small int64 initializer in the model file; a scalar if given a single integer."""
        return self._tape.initializer(ir.tensor(np.array(integers, dtype=np.int64), name=name))

    def slice(
        self, name: str, value: ir.Value, *, axis: int, start: int | ir.Value, end: int
    ) -> ir.Value:
        """Part of a value along one axis; a start that is a value is int64 [1]."""
        if isinstance(start, int):
            start = self.constant(f"{name}.start", [start])
        bounds = [start, self.constant(f"{name}.end", [end]), self.constant(f"{name}.axis", [axis])]
        return self.node("Slice", name, [value, *bounds])

    def node(
        self,
        operator: str,
        name: str,
        inputs: Sequence[ir.Value | None],
        attributes: Attributes | None = None,
        *,
        domain: str = "",
    ) -> ir.Value:
        """Adds a node of one output, and returns that; it has the node's name."""
        (output,) = self.nodes(operator, [name], inputs, attributes, domain=domain)
        return output

    def nodes(
        self,
        operator: str,
        names: Sequence[str],
        inputs: Sequence[ir.Value | None],
        attributes: Attributes | None = None,
        *,
        domain: str = "",
    ) -> Sequence[ir.Value]:
        """Adds a node with an output for each name; an empty name leaves that output out."""
        return self._tape.op_multi_out(
            operator,
            inputs,
            attributes,
            outputs=[ir.Value(name=name) for name in names],
            domain=domain,
            name=names[0],
        )

    def model(self) -> ir.Model:
        """The finished model."""
        graph = ir.Graph(
            self._inputs,
            self._outputs,
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports={"": self._opset, MICROSOFT: 1},
            name="decoder",
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="skiff")
