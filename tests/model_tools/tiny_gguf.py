"""A tiny random Llama model as a GGUF file, for tests: `TinyLlama(tied=False).write(path)`.

Its vocabulary is byte-level BPE: three control tokens, the 256 bytes, a token for each of `MERGES`,
a user defined token, and two unused ones at the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quant_shape_to_byte_shape, quantize
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel

from model_tools.gguf.vocabulary import PreTokenizer, TokenType, Vocabulary

END_OF_TEXT, BEGIN_OF_TURN, END_OF_TURN = 0, 1, 2
MERGES = ("Ġ t", "h e", "Ġt he", "i n", "Ġ a", "o n", "Ġ Ġ", "ĠĠ ĠĠ", "1 2", "12 3")
TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *sorted(ByteLevel.alphabet()),
    *(merge.replace(" ", "") for merge in MERGES),
    "<tool call>",
    *("[PAD0]", "[PAD1]"),
)
TYPES = (
    *[TokenType.CONTROL] * 3,
    *[TokenType.NORMAL] * (256 + len(MERGES)),
    TokenType.USER_DEFINED,
    *[TokenType.UNUSED] * 2,
)
VOCABULARY = Vocabulary(
    pre_tokenizer=PreTokenizer.SMOLLM,
    tokens=TOKENS,
    types=TYPES,
    merges=tuple((first, second) for first, second in map(str.split, MERGES)),
    begin=BEGIN_OF_TURN,
    end=END_OF_TURN,
    end_of_turn=None,
    end_of_message=None,
    unknown=None,
    padding=None,
    fill_in_the_middle_ends=(),
    add_begin=False,
)
"""The vocabulary that reading the file gives."""

Array = NDArray[np.float32]
Value = bool | int | float | str | Sequence[str] | Sequence[int]


@dataclass(frozen=True, slots=True)
class TinyLlama:
    seed: int = 0
    architecture: str = "llama"
    layers: int = 2
    hidden_size: int = 64
    intermediate_size: int = 96
    attention_heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    context_length: int = 128
    tied: bool = True
    matrix_type: GGMLQuantizationType = GGMLQuantizationType.F32
    padding_rows: int = 0
    """Rows of the embedding that belong to no token."""
    rope_factors: Sequence[float] | None = None
    """`rope_freqs.weight`, head_dim / 2 numbers."""
    keys: Mapping[str, Value | None] = field(default_factory=dict)
    """Metadata keys to add or to replace; None leaves one out."""
    changed_tensors: Mapping[str, Array | None] = field(default_factory=dict)
    """Tensors to add or to replace; None leaves one out."""

    def write(self, path: Path) -> Path:
        writer = GGUFWriter(path, self.architecture)
        for name, value in self.metadata().items():
            if value is not None:
                _add(writer, name, value)
        for name, values in self.tensors().items():
            is_matrix = values.ndim == 2
            kind = self.matrix_type if is_matrix else GGMLQuantizationType.F32
            writer.add_tensor(name, stored(values, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def metadata(self) -> dict[str, Value | None]:
        return {
            "general.name": "Tiny",
            "llama.block_count": self.layers,
            "llama.context_length": self.context_length,
            "llama.embedding_length": self.hidden_size,
            "llama.feed_forward_length": self.intermediate_size,
            "llama.attention.head_count": self.attention_heads,
            "llama.attention.head_count_kv": self.kv_heads,
            "llama.attention.key_length": self.head_dim,
            "llama.attention.value_length": self.head_dim,
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.rope.freq_base": 10000.0,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": TOKENS,
            "tokenizer.ggml.token_type": TYPES,
            "tokenizer.ggml.merges": MERGES,
            "tokenizer.ggml.bos_token_id": BEGIN_OF_TURN,
            "tokenizer.ggml.eos_token_id": END_OF_TURN,
            **self.keys,
        }

    def tensors(self) -> dict[str, Array]:
        """The weights before they are quantised, in numpy's order of dimensions."""
        random = np.random.default_rng(self.seed)
        tensors = {name: _weights(random, shape) for name, shape in self._shapes().items()}
        if self.rope_factors is not None:
            tensors["rope_freqs.weight"] = np.asarray(self.rope_factors, np.float32)
        for name, values in self.changed_tensors.items():
            tensors.pop(name, None)
            if values is not None:
                tensors[name] = values
        return tensors

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        queries, keys = self.attention_heads * self.head_dim, self.kv_heads * self.head_dim
        hidden, feed_forward = self.hidden_size, self.intermediate_size
        vocabulary = len(TOKENS) + self.padding_rows
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocabulary, hidden)}
        for layer in range(self.layers):
            shapes |= {
                f"blk.{layer}.attn_norm.weight": (hidden,),
                f"blk.{layer}.attn_q.weight": (queries, hidden),
                f"blk.{layer}.attn_k.weight": (keys, hidden),
                f"blk.{layer}.attn_v.weight": (keys, hidden),
                f"blk.{layer}.attn_output.weight": (hidden, queries),
                f"blk.{layer}.ffn_norm.weight": (hidden,),
                f"blk.{layer}.ffn_gate.weight": (feed_forward, hidden),
                f"blk.{layer}.ffn_up.weight": (feed_forward, hidden),
                f"blk.{layer}.ffn_down.weight": (hidden, feed_forward),
            }
        shapes["output_norm.weight"] = (hidden,)
        return shapes if self.tied else {**shapes, "output.weight": (vocabulary, hidden)}


def _weights(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Norms near 1, matrices that preserve the size of activations."""
    values = random.standard_normal(shape, np.float32)
    if len(shape) == 1:
        return 1 + values * np.float32(0.1)
    return values * np.float32(shape[1] ** -0.5)


def stored(values: Array, kind: GGMLQuantizationType) -> NDArray[np.generic]:
    """The tensor as it lies in the file.

    `gguf` reads K-quants but cannot write them: for these the blocks are random bytes, small enough
    that no half-precision scale among them is infinite.
    """
    try:
        return quantize(values, kind)
    except NotImplementedError:
        shape = quant_shape_to_byte_shape(values.shape, kind)
        return np.random.default_rng(0).integers(0, 60, shape, np.uint8)


def _add(writer: GGUFWriter, name: str, value: Value) -> None:
    match value:
        case bool():
            writer.add_bool(name, value)
        case int():
            writer.add_uint32(name, value)
        case float():
            writer.add_float32(name, value)
        case str():
            writer.add_string(name, value)
        case _:
            writer.add_array(name, value)
