"""A GGUF file: its metadata keys, and its tensors dequantised on demand out of the memory map.

Knows the container and its tensor types, not what a model makes of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize
from numpy.typing import DTypeLike, NDArray

from model_tools.decoder_spec import Weights
from model_tools.gguf.keys import GgufKeys
from server.errors import StartError


@dataclass(frozen=True, slots=True)
class GgufFile:
    keys: GgufKeys
    _tensors: Mapping[str, ReaderTensor]

    @classmethod
    def open(cls, path: Path) -> "GgufFile":
        """Maps the file; raises StartError if it is not GGUF, cut short, damaged or unsupported."""
        reader = _read(path)
        if reader.byte_order != "I":
            raise StartError(f"{path}: a GGUF file of the other byte order is not supported")
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        _check_types(path, tensors.values())
        return cls(GgufKeys(str(path), reader.fields), tensors)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape, outermost dimension first as in numpy (GGUF has it last)."""
        return {name: _shape(tensor) for name, tensor in self._tensors.items()}

    def tensor(self, name: str) -> Weights:
        """A tensor dequantised to float32; raises StartError on a value that is not finite."""
        tensor = self._tensors[name]
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        if not np.isfinite(values).all():
            raise self.error(f"{name} holds a value that is not finite")
        return values.reshape(_shape(tensor))

    def error(self, reason: str) -> StartError:
        """One line: the file and the reason."""
        return self.keys.error(reason)


class _Reader(GGUFReader):
    """Raises ValueError past the end of the file. `gguf` alone finds empty arrays there, and looks
    for as many items as a damaged list length says."""

    def _get(
        self,
        offset: int,
        dtype: DTypeLike,
        count: int = 1,
        override_order: Literal["I", "S", "<"] | None = None,
    ) -> NDArray[Any]:
        found = super()._get(offset, dtype, count, override_order)
        if len(found) < count:
            raise ValueError("past the end of the file")
        return found


def _read(path: Path) -> GGUFReader:
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise StartError(f"{path}: this is not a GGUF file")
        return _Reader(path)
    except OSError as error:
        raise StartError(f"{path}: {error.strerror or error}") from error
    # `gguf` raises these where it runs past the end of a file or into nonsense; its messages are
    # about numpy's arrays.
    except (ValueError, IndexError, KeyError, OverflowError, RecursionError) as error:
        raise StartError(
            f"{path}: the GGUF file is cut short, damaged or of a version that is not supported"
        ) from error


def _check_types(path: Path, tensors: Iterable[ReaderTensor]) -> None:
    """Dequantises one row per type, so that an unsupported type is known before any work."""
    one_of_each = {tensor.tensor_type: tensor for tensor in tensors}
    for tensor_type, tensor in one_of_each.items():
        try:
            dequantize(np.atleast_2d(tensor.data)[:1], tensor_type)
        except NotImplementedError as error:
            raise StartError(
                f"{path}: {tensor.name} is of type {tensor_type.name}, which is not supported"
            ) from error


def _shape(tensor: ReaderTensor) -> tuple[int, ...]:
    return tuple(int(size) for size in reversed(tensor.shape.tolist()))
