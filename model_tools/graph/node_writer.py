"""Nodes, inputs and outputs that are added to a graph.

Knows onnx-ir; knows no weights.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

Shape = Sequence[int | str]
"""A string names a dimension that is known when the graph runs."""
Attributes = Mapping[str, int | float | str | list[int]]


class NodeWriter:
    """Adds to the end of a graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._tape = ir.tape.Tape(graph)

    def input(self, name: str, dtype: ir.DataType, shape: Shape) -> ir.Value:
        """An input of the graph."""
        value = ir.val(name, dtype, list(shape))
        self._graph.inputs.append(value)
        return value

    def optional_input(self, name: str, default: int) -> ir.Value:
        """Adds an int64 scalar input; its initializer is the default if it is not fed."""
        value = self.constant(name, default)
        self._graph.inputs.append(value)
        return value

    def output(self, value: ir.Value, shape: Shape, dtype: ir.DataType = ir.DataType.FLOAT) -> None:
        """Makes a value an output of the graph."""
        value.dtype = dtype
        value.shape = ir.Shape(shape)
        self._graph.outputs.append(value)

    def constant(self, name: str, integers: int | Sequence[int]) -> ir.Value:
        """A small int64 initializer in the model file; a scalar if given a single integer."""
        return self._tape.initializer(ir.tensor(np.array(integers, dtype=np.int64), name=name))

    def slice(self, name: str, value: ir.Value, *, axis: int, start: int, end: int) -> ir.Value:
        """Part of a value along one axis."""
        bounds = {"start": start, "end": end, "axis": axis}
        inputs = [self.constant(f"{name}.{bound}", [index]) for bound, index in bounds.items()]
        return self.node("Slice", name, [value, *inputs])

    def node(
        self,
        operator: str,
        name: str,
        inputs: Sequence[ir.Value | None],
        attributes: Attributes | None = None,
        *,
        domain: str = "",
    ) -> ir.Value:
        """Adds a node with one output of the same name, and returns that output."""
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
