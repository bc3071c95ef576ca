"""`genai_config.json`: the same folder for ONNX Runtime GenAI (its schema as of 0.18).

The names of the graph's inputs and outputs are those of `model_tools.graph.decoder`;
`num_logits_to_keep` is not among them, because GenAI does not know it and the graph has a default
for it.
"""

from model_tools.decoder_spec import DecoderSpec
from model_tools.documents.hf_config import Document, sampling_config
from model_tools.gguf.metadata import ModelMetadata
from model_tools.recipe import KvLayout, Recipe, Target
from server.model.graph_interface import PAGE_TOKENS

_SLOT_INPUTS = ("attention_mask",)
_PAGE_INPUTS = (
    "block_table",
    "cumulative_sequence_lengths",
    "past_sequence_lengths",
    "attention_metadata",
)
"""The inputs that tell attention about sequences, for each KV layout."""


def genai_config(
    spec: DecoderSpec, metadata: ModelMetadata, model_file: str, recipe: Recipe
) -> Document:
    end = metadata.end_of_generation
    begin, padding = metadata.vocabulary.begin, metadata.vocabulary.padding
    return {
        **_engine(recipe),
        "model": {
            # GenAI requires both, but does not prepend the one and does not pad a single prompt.
            "bos_token_id": end[0] if begin is None else begin,
            "pad_token_id": end[0] if padding is None else padding,
            "eos_token_id": list(end),
            "context_length": spec.context_length,
            "decoder": _decoder(spec, model_file, recipe),
            "type": "llama",
            "vocab_size": spec.vocabulary_size,
        },
        "search": {
            "early_stopping": True,
            "length_penalty": 1.0,
            "max_length": spec.context_length,
            "min_length": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            # Attention appends to the buffer that it reads.
            "past_present_share_buffer": True,
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
            **{k: v for k, v in sampling_config(metadata.sampling).items() if k != "min_p"},
        },
    }


def _engine(recipe: Recipe) -> Document:
    """Models with pages are for GenAI's engine only, which does not take them without this."""
    if recipe.kv_layout is KvLayout.SLOTS:
        return {}
    batching = {"block_size": PAGE_TOKENS, "max_batch_size": 100, "gpu_utilization_factor": 0.6}
    return {"engine": {"dynamic_batching": batching}}


def _decoder(spec: DecoderSpec, model_file: str, recipe: Recipe) -> Document:
    paged = recipe.kv_layout is KvLayout.PAGES
    attention_inputs = _PAGE_INPUTS if paged else _SLOT_INPUTS
    # Providers besides the CPU; Skiff, too, reads here which device a folder is made for.
    providers: list[Document] = [{"cuda": {}}] if recipe.target is Target.CUDA else []
    return {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": providers},
        "filename": model_file,
        "head_size": spec.head_dim,
        "hidden_size": spec.hidden_size,
        "inputs": {
            "input_ids": "input_ids",
            **{name: name for name in attention_inputs},
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "num_attention_heads": spec.attention_heads,
        "num_hidden_layers": spec.layers,
        "num_key_value_heads": spec.kv_heads,
        **({"state_groups": [_all_layers(spec)]} if paged else {}),
    }


def _all_layers(spec: DecoderSpec) -> Document:
    return {"kind": "paged_kv", "layer_ids": list(range(spec.layers))}
