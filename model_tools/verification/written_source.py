"""A written graph's weights as a source: read back from the folder, and dequantised.

Knows the names that `graph.decoder` and `graph.layer` give to initializers; runs nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from model_tools.decoder_spec import DecoderSpec, LayerWeights, Weights
from model_tools.graph.rotary import interleaved
from model_tools.weights.quantise import BlockFormat, QuantisedMatrix, dequantise


@dataclass(frozen=True, slots=True)
class WrittenSource:
    """Satisfies `WeightSource`; matrices are what their integers and scales stand for."""

    spec: DecoderSpec
    initializers: Mapping[str, ir.Value]

    @classmethod
    def open(cls, model_file: Path, spec: DecoderSpec) -> "WrittenSource":
        return cls(spec, ir.load(model_file).graph.initializers)

    def embedding(self) -> Weights:
        return self._matrix("embedding", self.spec.hidden_size)

    def head(self) -> Weights:
        name = "embedding" if self.spec.tied_embedding else "head"
        return self._matrix(name, self.spec.hidden_size)

    def final_norm(self) -> Weights:
        return self._array("final_norm.weight")

    def layer(self, index: int) -> LayerWeights:
        spec, name = self.spec, f"layers.{index}"
        hidden, heads = spec.hidden_size, spec.attention_heads * spec.head_dim
        q, k, v = np.split(
            self._matrix(f"{name}.attention.qkv", hidden),
            [heads, heads + spec.kv_heads * spec.head_dim],
        )
        gate, up = np.split(self._matrix(f"{name}.feed_forward.gate_up", hidden), 2)
        return LayerWeights(
            attention_norm=self._array(f"{name}.attention_norm.weight"),
            q=interleaved(q, spec.head_dim),
            k=interleaved(k, spec.head_dim),
            v=v,
            o=self._matrix(f"{name}.attention.o", heads),
            feed_forward_norm=self._array(f"{name}.feed_forward_norm.weight"),
            gate=gate,
            up=up,
            down=self._matrix(f"{name}.feed_forward.down", spec.intermediate_size),
        )

    def _matrix(self, name: str, inputs: int) -> Weights:
        if f"{name}.weight" in self.initializers:
            return self._array(f"{name}.weight")
        scales = self.initializers[f"{name}.scales"]
        # Its attributes say what the bytes mean.
        reader = next(iter(scales.uses())).node
        block_format = BlockFormat(
            reader.attributes["bits"].as_int(), reader.attributes["block_size"].as_int()
        )
        matrix = QuantisedMatrix(self._tensor(f"{name}.integers"), self._tensor(f"{name}.scales"))
        return dequantise(matrix, block_format, inputs)

    def _array(self, name: str) -> Weights:
        return self._tensor(name).astype(np.float32)

    def _tensor(self, name: str) -> NDArray[Any]:
        tensor = self.initializers[name].const_value
        if tensor is None:
            raise KeyError(name)
        return tensor.numpy()
