"""The documents of a model folder say what the source says, in the terms of their readers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from model_tools.documents.writer import write_documents
from model_tools.gguf.source import GgufSource
from model_tools.recipe import FloatType, Recipe, Target, WeightType
from tests.model_tools.tiny_gguf import TOKENS, TinyLlama, Value

ON_CPU = Recipe(WeightType.INT8, 32)


def written(folder: Path, tiny: TinyLlama, recipe: Recipe = ON_CPU) -> Path:
    folder.mkdir()
    write_documents(folder, GgufSource.open(tiny.write(folder / "tiny.gguf")), recipe)
    return folder


def document(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "model", TinyLlama())


def test_config_json_is_a_llama_config(folder: Path) -> None:
    assert document(folder, "config.json") == {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": [2, 0],
        "pad_token_id": None,
        "head_dim": 16,
        "hidden_act": "silu",
        "hidden_size": 64,
        "intermediate_size": 96,
        "max_position_embeddings": 128,
        "mlp_bias": False,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": len(TOKENS),
    }


def test_generation_is_greedy_where_the_file_suggests_nothing(folder: Path) -> None:
    assert document(folder, "generation_config.json") == {
        "bos_token_id": 1,
        "eos_token_id": [2, 0],
        "pad_token_id": None,
        "do_sample": False,
    }
    assert document(folder, "genai_config.json")["search"]["do_sample"] is False


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"temp": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "penalty_repeat": 1.1},
            {
                "do_sample": True,
                "temperature": 0.6,
                "top_k": 20,
                "top_p": 0.95,
                "min_p": 0.05,
                "repetition_penalty": 1.1,
            },
        ),
        ({"temp": 0.6}, {"do_sample": True, "temperature": 0.6}),
        ({"temp": 0.0, "top_k": 40}, {"do_sample": False}),
        ({"penalty_repeat": 1.25}, {"do_sample": False, "repetition_penalty": 1.25}),
    ],
)
def test_suggested_sampling_is_handed_on(
    tmp_path: Path, keys: Mapping[str, Value], expected: Mapping[str, object]
) -> None:
    suggested = {f"general.sampling.{name}": value for name, value in keys.items()}
    folder = written(tmp_path / "model", TinyLlama(keys=suggested))
    generation = document(folder, "generation_config.json")
    assert expected == {
        name: value for name, value in generation.items() if not name.endswith("token_id")
    }
    search = document(folder, "genai_config.json")["search"]
    assert search.items() >= {k: v for k, v in expected.items() if k != "min_p"}.items()


@pytest.mark.parametrize(
    ("activations", "name"), [(FloatType.FP16, "float16"), (FloatType.BF16, "bfloat16")]
)
def test_a_folder_for_cuda_says_so(tmp_path: Path, activations: FloatType, name: str) -> None:
    recipe = Recipe(WeightType.INT4, 32, Target.CUDA, activations)
    folder = written(tmp_path / "model", TinyLlama(), recipe)
    assert document(folder, "config.json")["torch_dtype"] == name
    decoder = document(folder, "genai_config.json")["model"]["decoder"]
    assert decoder["session_options"]["provider_options"] == [{"cuda": {}}]


def test_genai_config_names_the_graphs_inputs_and_outputs(tmp_path: Path) -> None:
    source = GgufSource.open(TinyLlama(tied=False, padding_rows=7).write(tmp_path / "tiny.gguf"))
    write_documents(tmp_path, source, ON_CPU, model_file="other.onnx")
    config = document(tmp_path, "genai_config.json")
    assert config["model"] == {
        "type": "llama",
        "vocab_size": len(TOKENS) + 7,
        "context_length": 128,
        "bos_token_id": 1,
        "eos_token_id": [2, 0],
        "pad_token_id": 2,
        "decoder": {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": "other.onnx",
            "head_size": 16,
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "inputs": {
                "input_ids": "input_ids",
                "attention_mask": "attention_mask",
                "past_key_names": "past_key_values.%d.key",
                "past_value_names": "past_key_values.%d.value",
            },
            "outputs": {
                "logits": "logits",
                "present_key_names": "present.%d.key",
                "present_value_names": "present.%d.value",
            },
        },
    }
    assert config["search"]["past_present_share_buffer"] is True
    assert config["search"]["max_length"] == 128


def test_tokenizer_config_takes_tokenizer_json_as_it_is(tmp_path: Path) -> None:
    keys = {"tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.add_bos_token": True}
    folder = written(tmp_path / "model", TinyLlama(keys=keys))
    assert document(folder, "tokenizer_config.json") == {
        "add_bos_token": True,
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 128,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("a<|im_end|>").ids == [1, TOKENS.index("a"), 2]


def test_linear_scaling_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "model", TinyLlama(keys={"llama.rope.scaling.factor": 4.0}))
    assert document(folder, "config.json")["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}


def test_frequency_factors_give_transformers_the_same_frequencies(tmp_path: Path) -> None:
    tiny = TinyLlama(
        rope_factors=[1.0, 1.0, 1.25, 2.0, 4.0, 8.0, 8.0, 8.0],
        keys={"llama.rope.scaling.factor": 2.0},
    )
    config = document(written(tmp_path / "model", tiny), "config.json")
    scaling = config["rope_scaling"]
    assert scaling["rope_type"] == "longrope"
    assert scaling["attention_factor"] == 1.0
    assert scaling["original_max_position_embeddings"] == config["max_position_embeddings"]
    assert scaling["short_factor"] == scaling["long_factor"]
    # As transformers computes it: modeling_rope_utils, _compute_longrope_parameters.
    exponents = np.arange(0, config["head_dim"], 2) / config["head_dim"]
    frequencies = 1 / (np.array(scaling["short_factor"]) * config["rope_theta"] ** exponents)
    rotary = GgufSource.open(tmp_path / "model" / "tiny.gguf").spec.rotary
    np.testing.assert_allclose(frequencies, rotary.frequencies(), rtol=1e-12)


def test_chat_templates_are_written_as_they_are(tmp_path: Path) -> None:
    keys = {
        "tokenizer.chat_template": "{% for m in messages %}\r\né{{ m }}\n{% endfor %}",
        "tokenizer.chat_template.tool_use": "{{ tools }}",
        "tokenizer.chat_templates": ["tool_use"],
    }
    folder = written(tmp_path / "model", TinyLlama(keys=keys))
    default, tools = folder / "chat_template.jinja", "additional_chat_templates/tool_use.jinja"
    assert default.read_bytes().decode() == keys["tokenizer.chat_template"]
    assert (folder / tools).read_bytes() == b"{{ tools }}"


def test_without_a_chat_template_there_is_no_file(folder: Path) -> None:
    assert not list(folder.rglob("*.jinja"))


def test_the_same_source_gives_the_same_bytes(tmp_path: Path, folder: Path) -> None:
    again = written(tmp_path / "again", TinyLlama())
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
