"""The tensors of an ONNX graph that lie in other files, as the graph declares them.

Reads as much of ONNX's protobuf as it needs, since no dependency of the server reads any.
"""

import mmap
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Numbers of fields, as in onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_DIMS, _TENSOR_DATA_TYPE, _TENSOR_NAME = 1, 2, 8
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_EXTERNAL = 1
"""The `DataLocation` of a tensor in another file."""
# How a value is written: protobuf's wire types.
_VARINT, _COUNTED = 0, 2
_FIXED = {1: 8, 5: 4}
"""Size in bytes by wire type."""

Value = int | memoryview
"""A field's value: a number, or the bytes of a string, of packed numbers or of a message."""
Fields = defaultdict[int, list[Value]]
"""The values of a message by field number, in their order."""


@dataclass(frozen=True, slots=True)
class ExternalTensor:
    """An initializer of a graph whose bytes lie in another file."""

    name: str
    data_type: int
    """ONNX's number of the type (onnx.proto, `TensorProto.DataType`)."""
    shape: tuple[int, ...]
    location: str
    """Relative to the graph's folder."""
    offset: int
    """In bytes."""


def external_tensors(graph: Path) -> list[ExternalTensor]:
    """Returns those of the graph itself, not of subgraphs in its nodes.

    Raises `OSError`, and `ValueError` or `LookupError` if it is no ONNX model.
    """
    with graph.open("rb") as file:
        model = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return [
        _external_tensor(tensor)
        for main in _fields(model)[_MODEL_GRAPH]
        for tensor in map(_fields, _fields(main)[_GRAPH_INITIALIZER])
        if tensor[_TENSOR_DATA_LOCATION] == [_EXTERNAL]
    ]


def _external_tensor(tensor: Fields) -> ExternalTensor:
    where = {}
    for entry in map(_fields, tensor[_TENSOR_EXTERNAL_DATA]):
        where[_text(entry[_ENTRY_KEY][-1])] = _text(entry[_ENTRY_VALUE][-1])
    [data_type] = _numbers(tensor[_TENSOR_DATA_TYPE])
    return ExternalTensor(
        _text(tensor[_TENSOR_NAME][-1]),
        data_type,
        tuple(_numbers(tensor[_TENSOR_DIMS])),
        where["location"],
        int(where.get("offset", 0)),
    )


def _fields(message: Value) -> Fields:
    fields: Fields = defaultdict(list)
    data, offset = _bytes(message), 0
    while offset < len(data):
        tag, offset = _varint(data, offset)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, offset = _varint(data, offset)
            fields[number].append(value)
            continue
        if wire_type == _COUNTED:
            size, offset = _varint(data, offset)
        else:
            size = _FIXED[wire_type]
        begin, offset = offset, offset + size
        if offset > len(data):
            raise ValueError("a field is longer than its message")
        fields[number].append(data[begin:offset])
    return fields


def _numbers(values: list[Value]) -> Iterator[int]:
    """Reads a repeated field of numbers, each value one number or several packed ones."""
    for value in values:
        if isinstance(value, int):
            yield value
            continue
        offset = 0
        while offset < len(value):
            number, offset = _varint(value, offset)
            yield number


def _varint(data: memoryview, offset: int) -> tuple[int, int]:
    """Reads a number of seven bits in each byte, the lowest first. Returns the offset behind it,
    too."""
    number = data[offset]
    if number < 0x80:
        return number, offset + 1
    number &= 0x7F
    for shift in range(7, 70, 7):
        offset += 1
        number |= (data[offset] & 0x7F) << shift
        if data[offset] < 0x80:
            return number, offset + 1
    raise ValueError("a number has no end")


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number, not a message")  # noqa: TRY004 no caller's mistake
    return value


def _text(value: Value) -> str:
    return str(_bytes(value), "utf-8")
