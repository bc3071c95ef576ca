"""A GGUF file of the `llama` architecture as a source of weights.

Knows the names and shapes of its tensors. Every tensor of the file is used or refused by name, when
the file is opened; the weights themselves are dequantised when they are asked for.
"""

from dataclasses import dataclass
from pathlib import Path

from model_tools.decoder_spec import DecoderSpec, LayerWeights, Weights
from model_tools.gguf.file import GgufFile
from model_tools.gguf.metadata import ModelMetadata, read_metadata
from model_tools.gguf.spec import EMBEDDING, HEAD, ROPE_FACTORS, read_spec

_FINAL_NORM = "output_norm.weight"


@dataclass(frozen=True, slots=True)
class GgufSource:
    """Satisfies `WeightSource`. Errors are StartError, one line with the file's name."""

    spec: DecoderSpec
    metadata: ModelMetadata
    _file: GgufFile

    @classmethod
    def open(cls, path: Path) -> "GgufSource":
        """Reads the metadata and checks every key and tensor; keeps no weights but rope factors."""
        file = GgufFile.open(path)
        metadata = read_metadata(file.keys)
        spec = read_spec(file)
        _check_tensors(file, spec)
        tokens = len(metadata.vocabulary.tokens)
        # Fewer tokens than rows is usual: rows are padded to a round number.
        if tokens > spec.vocabulary_size:
            raise file.error(f"{tokens} tokens, but {EMBEDDING} has {spec.vocabulary_size} rows")
        return cls(spec, metadata, file)

    def embedding(self) -> Weights:
        """[vocabulary, hidden]."""
        return self._file.tensor(EMBEDDING)

    def layer(self, index: int) -> LayerWeights:
        """Dequantises one layer; keep no reference to it when the next one is read."""

        def weight(name: str) -> Weights:
            return self._file.tensor(f"blk.{index}.{name}.weight")

        return LayerWeights(
            attention_norm=weight("attn_norm"),
            q=weight("attn_q"),
            k=weight("attn_k"),
            v=weight("attn_v"),
            o=weight("attn_output"),
            feed_forward_norm=weight("ffn_norm"),
            gate=weight("ffn_gate"),
            up=weight("ffn_up"),
            down=weight("ffn_down"),
        )

    def final_norm(self) -> Weights:
        """[hidden]."""
        return self._file.tensor(_FINAL_NORM)

    def head(self) -> Weights:
        """[vocabulary, hidden]; the embedding where the two are tied."""
        return self._file.tensor(EMBEDDING if self.spec.tied_embedding else HEAD)


def _check_tensors(file: GgufFile, spec: DecoderSpec) -> None:
    found = file.shapes()
    if spec.layers > len(found):  # a damaged count may be billions
        raise file.error(f"llama.block_count = {spec.layers}, but there are {len(found)} tensors")
    expected = _expected_shapes(spec)
    for problem, names in (
        ("lacks", expected.keys() - found.keys()),
        ("has unsupported", found.keys() - expected.keys()),
    ):
        if names:
            shown = ", ".join(sorted(names)[:5])
            raise file.error(f"the file {problem} tensors: {shown} ({len(names)} in all)")
    for name, shape in expected.items():
        if found[name] != shape:
            raise file.error(f"{name} has shape {list(found[name])}, not {list(shape)}")


def _expected_shapes(spec: DecoderSpec) -> dict[str, tuple[int, ...]]:
    hidden, feed_forward = spec.hidden_size, spec.intermediate_size
    queries, keys = spec.attention_heads * spec.head_dim, spec.kv_heads * spec.head_dim
    per_layer = {
        "attn_norm": (hidden,),
        "attn_q": (queries, hidden),
        "attn_k": (keys, hidden),
        "attn_v": (keys, hidden),
        "attn_output": (hidden, queries),
        "ffn_norm": (hidden,),
        "ffn_gate": (feed_forward, hidden),
        "ffn_up": (feed_forward, hidden),
        "ffn_down": (hidden, feed_forward),
    }
    shapes: dict[str, tuple[int, ...]] = {
        f"blk.{layer}.{name}.weight": shape
        for layer in range(spec.layers)
        for name, shape in per_layer.items()
    }
    shapes |= {EMBEDDING: (spec.vocabulary_size, hidden), _FINAL_NORM: (hidden,)}
    if not spec.tied_embedding:
        shapes[HEAD] = (spec.vocabulary_size, hidden)
    if spec.rotary.frequency_factors is not None:
        shapes[ROPE_FACTORS] = (spec.head_dim // 2,)
    return shapes
