"""`config.json`, `generation_config.json` and `tokenizer_config.json`, in the vocabulary of Hugging
Face `transformers`, which reads them in version 4 and 5.
"""

import numpy as np

from model_tools.decoder_spec import DecoderSpec, RotarySpec
from model_tools.gguf.metadata import ModelMetadata, SuggestedSampling

Document = dict[str, object]


def model_config(spec: DecoderSpec, metadata: ModelMetadata, torch_dtype: str) -> Document:
    """`config.json`: a LlamaConfig. Skiff reads the context length; the graph has the rest."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        **_special_tokens(metadata),
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "max_position_embeddings": spec.context_length,
        "mlp_bias": False,
        "num_attention_heads": spec.attention_heads,
        "num_hidden_layers": spec.layers,
        "num_key_value_heads": spec.kv_heads,
        "rms_norm_eps": _shortest(spec.rms_epsilon),
        "rope_scaling": _rope_scaling(spec.rotary, spec.context_length),
        "rope_theta": _shortest(spec.rotary.base),
        "tie_word_embeddings": spec.tied_embedding,
        "torch_dtype": torch_dtype,
        "use_cache": True,
        "vocab_size": spec.vocabulary_size,
    }


def generation_config(metadata: ModelMetadata) -> Document:
    """`generation_config.json`: greedy, unless the file suggests how to sample."""
    return {**_special_tokens(metadata), **sampling_config(metadata.sampling)}


def sampling_config(sampling: SuggestedSampling) -> Document:
    """Greedy unless the file suggests otherwise; a repetition penalty applies either way."""
    drawing = _given(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
    )
    do_sample = bool(drawing) and sampling.temperature != 0
    return {
        "do_sample": do_sample,
        **(drawing if do_sample else {}),
        **_given(repetition_penalty=sampling.repetition_penalty),
    }


def _given(**values: float | None) -> dict[str, float]:
    return {name: _shortest(value) for name, value in values.items() if value is not None}


def tokenizer_config(spec: DecoderSpec, metadata: ModelMetadata) -> Document:
    """`tokenizer_config.json`: a class that uses tokenizer.json as it is, and special tokens."""
    vocabulary = metadata.vocabulary
    special = {
        "bos_token": vocabulary.begin,
        "eos_token": metadata.end_of_generation[0],
        "pad_token": vocabulary.padding,
        "unk_token": vocabulary.unknown,
    }
    return {
        "add_bos_token": vocabulary.add_begin,
        **{name: vocabulary.tokens[token] for name, token in special.items() if token is not None},
        # Decoding is lossless without it.
        "clean_up_tokenization_spaces": False,
        "model_max_length": spec.context_length,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def _special_tokens(metadata: ModelMetadata) -> Document:
    return {
        "bos_token_id": metadata.vocabulary.begin,
        "eos_token_id": list(metadata.end_of_generation),
        "pad_token_id": metadata.vocabulary.padding,
    }


def _rope_scaling(rotary: RotarySpec, context_length: int) -> Document | None:
    """A GGUF file has Llama 3's factor per frequency, not the four numbers these come from.
    `longrope` with the same list for every length expresses exactly that."""
    if rotary.frequency_factors is not None:
        factors = [_shortest(rotary.linear_factor * each) for each in rotary.frequency_factors]
        return {
            "rope_type": "longrope",
            "factor": 1.0,
            "attention_factor": 1.0,
            "original_max_position_embeddings": context_length,
            "short_factor": factors,
            "long_factor": factors,
        }
    if rotary.linear_factor != 1.0:
        return {"rope_type": "linear", "factor": _shortest(rotary.linear_factor)}
    return None


def _shortest(value: float) -> float:
    """The shortest decimal of the float32 that GGUF stores: 1e-05, not 9.999999747378752e-06."""
    return value if isinstance(value, int) else float(str(np.float32(value)))
