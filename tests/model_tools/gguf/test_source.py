"""GgufSource: every key and tensor of a file is read as llama.cpp reads it, or refused by name."""

import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUF_VERSION, GGMLQuantizationType, GGUFValueType
from gguf.quants import dequantize

from model_tools.decoder_spec import DecoderSpec, RotarySpec, each_layer
from model_tools.gguf.source import GgufSource
from server.errors import StartError
from tests.model_tools.tiny_gguf import TOKENS, TinyLlama, Value, stored

Type = GGMLQuantizationType
Open = Callable[[TinyLlama], GgufSource]
ARRAY, BYTE = GGUFValueType.ARRAY, GGUFValueType.UINT8

TYPES = (
    *(Type.F32, Type.F16, Type.BF16),
    *(Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0),
    *(Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K),
)


@pytest.fixture
def open_tiny(tmp_path: Path) -> Open:
    return lambda tiny: GgufSource.open(tiny.write(tmp_path / "tiny.gguf"))


def refusal(open_tiny: Open, tiny: TinyLlama) -> str:
    with pytest.raises(StartError) as caught:
        open_tiny(tiny)
    message = str(caught.value)
    assert "\n" not in message
    assert "tiny.gguf: " in message
    return message.split("tiny.gguf: ")[1]


def test_the_spec_says_what_the_keys_say(open_tiny: Open) -> None:
    source = open_tiny(TinyLlama(padding_rows=3))
    assert source.spec == DecoderSpec(
        layers=2,
        hidden_size=64,
        intermediate_size=96,
        attention_heads=4,
        kv_heads=2,
        head_dim=16,
        vocabulary_size=len(TOKENS) + 3,
        context_length=128,
        rms_epsilon=float(np.float32(1e-5)),
        rotary=RotarySpec(base=10000.0, head_dim=16),
        tied_embedding=True,
    )


def test_weights_come_back_unchanged_and_in_the_files_own_row_order(open_tiny: Open) -> None:
    tiny = TinyLlama(tied=False)
    source, written = open_tiny(tiny), tiny.tensors()
    for index, layer in enumerate(each_layer(source)):
        for name, weights in {
            "attn_norm": layer.attention_norm,
            "attn_q": layer.q,
            "attn_k": layer.k,
            "attn_v": layer.v,
            "attn_output": layer.o,
            "ffn_norm": layer.feed_forward_norm,
            "ffn_gate": layer.gate,
            "ffn_up": layer.up,
            "ffn_down": layer.down,
        }.items():
            np.testing.assert_array_equal(weights, written[f"blk.{index}.{name}.weight"])
    np.testing.assert_array_equal(source.embedding(), written["token_embd.weight"])
    np.testing.assert_array_equal(source.final_norm(), written["output_norm.weight"])
    np.testing.assert_array_equal(source.head(), written["output.weight"])


def test_a_tied_head_is_the_embedding(open_tiny: Open) -> None:
    source = open_tiny(TinyLlama())
    np.testing.assert_array_equal(source.head(), source.embedding())


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_each_type_is_dequantised_to_float32(open_tiny: Open, kind: Type) -> None:
    tiny = TinyLlama(matrix_type=kind, hidden_size=256, intermediate_size=512, head_dim=64)
    down = tiny.tensors()["blk.1.ffn_down.weight"]
    read = open_tiny(tiny).layer(1).down
    np.testing.assert_array_equal(read, dequantize(stored(down, kind), kind))
    assert read.dtype == np.float32
    assert read.any()


def test_a_layer_is_read_only_when_it_is_asked_for(open_tiny: Open) -> None:
    broken = np.full((64, 96), np.nan, np.float32)
    source = open_tiny(TinyLlama(changed_tensors={"blk.1.ffn_down.weight": broken}))
    source.layer(0)
    with pytest.raises(StartError, match=r"blk\.1\.ffn_down\.weight holds a value .* not finite"):
        source.layer(1)


@pytest.mark.parametrize(
    ("keys", "rotary"),
    [
        ({"llama.rope.freq_base": None}, RotarySpec(10000.0, 16)),
        ({"llama.rope.scaling.factor": 4.0}, RotarySpec(10000.0, 16, 4.0)),
        ({"llama.rope.scale_linear": 2.0}, RotarySpec(10000.0, 16, 2.0)),
        ({"llama.rope.scaling.factor": 0.0}, RotarySpec(10000.0, 16)),
        ({"llama.rope.scaling.type": "none"}, RotarySpec(10000.0, 16)),
        (
            {
                "llama.rope.scaling.type": "linear",
                "llama.rope.scaling.factor": 4.0,
                "llama.rope.scaling.original_context_length": 32,
                "llama.rope.scaling.finetuned": True,
            },
            RotarySpec(10000.0, 16, 4.0),
        ),
    ],
)
def test_rope_keys_mean_what_they_mean_to_llama_cpp(
    open_tiny: Open, keys: Mapping[str, Value | None], rotary: RotarySpec
) -> None:
    assert open_tiny(TinyLlama(keys=keys)).spec.rotary == rotary


def test_rope_factors_become_frequency_factors(open_tiny: Open) -> None:
    factors = (1.0, 1.0, 1.5, 2.0, 4.0, 8.0, 8.0, 8.0)
    assert open_tiny(TinyLlama(rope_factors=factors)).spec.rotary.frequency_factors == factors


@pytest.mark.parametrize(
    "keys",
    [
        {"llama.attention.head_count": [4, 4], "llama.feed_forward_length": [96, 96]},
        {"llama.attention.key_length": None, "llama.attention.value_length": None},
        {"llama.expert_count": 0, "llama.expert_used_count": 0},
        {"llama.attention.scale": 0.25, "llama.attention.causal": True},
        {"llama.vocab_size": len(TOKENS), "llama.rope.dimension_count": 16},
        {"general.quantization_version": 2, "general.file_type": 1, "general.type": "model"},
        {"general.author": "somebody", "general.tags": ["tiny"], "quantize.imatrix.file": "x"},
        {"tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.mask_token_id": 1},
        {"split.count": 1, "split.no": 0, "split.tensors.count": 20},
    ],
)
def test_what_changes_nothing_may_pass(open_tiny: Open, keys: Mapping[str, Value | None]) -> None:
    assert open_tiny(TinyLlama(keys=keys)).spec == open_tiny(TinyLlama()).spec


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"llama.block_count": None}, "llama.block_count is missing"),
        ({"llama.block_count": 0}, "llama.block_count = 0 is not above 0"),
        ({"llama.context_length": 1}, "llama.context_length = 1 leaves no room for an answer"),
        ({"llama.context_length": 2**31}, "llama.context_length = 2147483648 is above 2147483647"),
        ({"llama.block_count": "two"}, "llama.block_count is no integer"),
        ({"llama.block_count": 10**6}, "llama.block_count = 1000000, but there are 20 tensors"),
        ({"llama.context_length": 1.5}, "llama.context_length is no integer"),
        ({"llama.feed_forward_length": [96, 64]}, "differs between layers"),
        ({"llama.attention.head_count_kv": 3}, "4 heads cannot share 3 KV heads"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "rms_epsilon is missing"),
        ({"llama.attention.layer_norm_rms_epsilon": 0.0}, "rms_epsilon is not above 0"),
        ({"llama.attention.value_length": 8}, "value_length = 8 in a head of 16"),
        ({"llama.rope.dimension_count": 8}, "dimension_count = 8 in a head of 16"),
        ({"llama.rope.freq_base": float("nan")}, "freq_base is no finite number"),
        ({"llama.rope.freq_base": -1.0}, "freq_base = -1.0 is not above 0"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type = 'yarn'"),
        ({"llama.rope.scaling.factor": float("inf")}, "scaling.factor is no finite number"),
        ({"llama.rope.scaling.factor": -2.0}, "factor of -2.0 is not above 0"),
        ({"llama.rope.scaling.factor": 2.0, "llama.rope.scale_linear": 4.0}, "differ"),
        ({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 2.0}, "type is none"),
        ({"llama.rope.scaling.attn_factor": 0.5}, "llama.rope.scaling.attn_factor = 0.5"),
        ({"llama.rope.scaling.yarn_beta_fast": 32.0}, "llama.rope.scaling.yarn_beta_fast"),
        ({"llama.expert_count": 8}, "llama.expert_count = 8"),
        ({"llama.attention.scale": 1.0}, "llama.attention.scale = 1.0"),
        ({"llama.attention.sliding_window": 64}, "llama.attention.sliding_window = 64"),
        ({"llama.logit_scale": 8.0}, "not supported: llama.logit_scale"),
        ({"llama.vocab_size": 100}, "llama.vocab_size is 100, but token_embd.weight has"),
        ({"general.type": "adapter"}, "general.type = 'adapter'"),
        ({"general.quantization_version": 1}, "general.quantization_version = 1"),
        ({"general.sampling.mirostat": 2}, "general.sampling.mirostat = 2"),
        ({"general.sampling.temp": -1.0}, "general.sampling.temp = -1.0 is not from 0 to 1e+06"),
        ({"general.sampling.top_p": 1.5}, "general.sampling.top_p = 1.5 is not from 1e-06 to 1"),
        ({"general.sampling.top_p": 0.0}, "general.sampling.top_p = 0.0 is not from 1e-06 to 1"),
        ({"general.sampling.penalty_repeat": 0.0}, "general.sampling.penalty_repeat = 0.0 is not"),
        ({"general.sampling.sequence": "edskypmxt"}, "general.sampling.sequence"),
        ({"split.count": 2}, "one part of a split model"),
        ({"tokenizer.chat_template.../x": "{{ 1 }}"}, "names no chat template"),
        ({"tokenizer.chat_template.default": "{{ 1 }}"}, "names no chat template"),
    ],
)
def test_a_key_that_is_wrong_or_not_supported_is_refused_by_name(
    open_tiny: Open, keys: Mapping[str, Value | None], reason: str
) -> None:
    assert reason in refusal(open_tiny, TinyLlama(keys=keys))


def test_another_architecture_is_refused_by_name(open_tiny: Open) -> None:
    assert "architecture 'qwen2'" in refusal(open_tiny, TinyLlama(architecture="qwen2"))


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("blk.0.attn_q.bias", (64,), "unsupported tensors: blk.0.attn_q.bias (1 in all)"),
        ("blk.0.ffn_gate_exps.weight", (4, 64), "unsupported tensors: blk.0.ffn_gate_exps"),
        ("blk.2.attn_q.weight", (64, 64), "unsupported tensors: blk.2.attn_q.weight"),
        ("blk.1.attn_v.weight", None, "lacks tensors: blk.1.attn_v.weight"),
        ("token_embd.weight", None, "token_embd.weight is missing"),
        ("blk.1.attn_k.weight", (64, 64), "blk.1.attn_k.weight has shape [64, 64], not [32, 64]"),
        ("token_embd.weight", (50, 64), "tokens, but token_embd.weight has 50 rows"),
        ("rope_freqs.weight", (4,), "rope_freqs.weight has shape [4], not [8]"),
    ],
)
def test_a_tensor_that_is_missing_unknown_or_misshapen_is_refused_by_name(
    open_tiny: Open, name: str, shape: tuple[int, ...] | None, reason: str
) -> None:
    values = None if shape is None else np.ones(shape, np.float32)
    assert reason in refusal(open_tiny, TinyLlama(changed_tensors={name: values}))


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_rope_factor_must_be_a_positive_number(open_tiny: Open, factor: float) -> None:
    assert "rope_freqs.weight holds a" in refusal(open_tiny, TinyLlama(rope_factors=[factor] * 8))


def test_a_type_that_cannot_be_dequantised_is_refused_when_the_file_is_opened(
    open_tiny: Open,
) -> None:
    reason = refusal(open_tiny, TinyLlama(matrix_type=Type.F64))
    assert "is of type F64, which is not supported" in reason


def test_a_file_that_is_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = TinyLlama().write(tmp_path / "whole.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in range(0, len(whole) - 64, len(whole) // 60):
        cut.write_bytes(whole[:length])
        with pytest.raises(StartError, match=r"cut short|not a GGUF file"):
            GgufSource.open(cut)


@pytest.mark.parametrize(
    "damaged",
    [
        struct.pack("<IIQ", ARRAY, BYTE, 1000),
        struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 5000,
    ],
    ids=["longer than the file", "in each other"],
)
def test_lists_that_are_damaged_are_refused(tmp_path: Path, damaged: bytes) -> None:
    file = tmp_path / "damaged.gguf"
    tensors, keys, name = 0, 1, b"list"
    file.write_bytes(
        struct.pack("<4sIQQ", b"GGUF", GGUF_VERSION, tensors, keys)
        + struct.pack("<Q4s", len(name), name)
        + damaged
        + bytes(100)
    )
    with pytest.raises(StartError, match="cut short, damaged"):
        GgufSource.open(file)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.gguf"
    foreign.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(StartError, match="not a GGUF file"):
        GgufSource.open(foreign)


def test_a_pipe_is_one_line_that_says_what_it_lacks() -> None:
    """As a shell has it: <(command)."""
    reader, writer = os.pipe()
    os.write(writer, b"GGUF" + bytes(100))
    os.close(writer)
    with os.fdopen(reader) as pipe, pytest.raises(StartError, match="seek"):
        GgufSource.open(Path(f"/dev/fd/{pipe.fileno()}"))


def test_a_path_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(StartError, match=reason):
            GgufSource.open(path)
