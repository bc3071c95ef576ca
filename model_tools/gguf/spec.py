"""The decoder's spec, from the `llama.*` keys of a GGUF file.

The meaning and the default of each key are those of llama.cpp (llama-model.cpp, load_hparams, and
models/llama.cpp). A key that asks for what this decoder cannot do is refused by name.
"""

import math

from model_tools.decoder_spec import DecoderSpec, RotarySpec
from model_tools.gguf.file import GgufFile
from model_tools.gguf.keys import GgufKeys

EMBEDDING = "token_embd.weight"
HEAD = "output.weight"
ROPE_FACTORS = "rope_freqs.weight"
MAX_CONTEXT = 2**31 - 1
"""ONNX Runtime's attention counts tokens in int32."""

_HARMLESS: dict[str, tuple[bool | float | str, ...]] = {
    "llama.expert_count": (0,),
    "llama.expert_used_count": (0,),
    "llama.nextn_predict_layers": (0,),
    "llama.attention.causal": (True,),
    "llama.attention.sliding_window": (0,),
    "llama.attention.clamp_kqv": (0.0,),
    "llama.attention.max_alibi_bias": (0.0,),
    "llama.rope.scaling.attn_factor": (0.0, 1.0),
    "llama.tensor_data_layout": ("Meta AI original pth",),
}
_DESCRIPTIVE = (
    # The context length before linear scaling, and whether the model was trained with it: only
    # types of scaling that are refused compute with these.
    "llama.rope.scaling.original_context_length",
    "llama.rope.scaling.finetuned",
)


def read_spec(file: GgufFile) -> DecoderSpec:
    """Reads every `llama.*` key; raises StartError for one that is missing, wrong or unknown."""
    keys, shapes = file.keys, file.shapes()
    hidden_size = _count(keys, "llama.embedding_length")
    heads = _count(keys, "llama.attention.head_count")
    head_dim = _head_dim(keys, hidden_size, heads)
    spec = DecoderSpec(
        layers=_count(keys, "llama.block_count"),
        hidden_size=hidden_size,
        intermediate_size=_count(keys, "llama.feed_forward_length"),
        attention_heads=heads,
        kv_heads=_count(keys, "llama.attention.head_count_kv", heads),
        head_dim=head_dim,
        vocabulary_size=_vocabulary_size(file),
        context_length=_count(keys, "llama.context_length"),
        rms_epsilon=keys.number("llama.attention.layer_norm_rms_epsilon"),
        rotary=_rotary(file, head_dim),
        tied_embedding=HEAD not in shapes,
    )
    if spec.attention_heads % spec.kv_heads:
        raise keys.error(f"{spec.attention_heads} heads cannot share {spec.kv_heads} KV heads")
    if spec.rms_epsilon <= 0:
        raise keys.error("llama.attention.layer_norm_rms_epsilon is not above 0")
    if spec.context_length < 2:
        raise keys.error("llama.context_length = 1 leaves no room for an answer")
    if spec.context_length > MAX_CONTEXT:
        raise keys.error(f"llama.context_length = {spec.context_length} is above {MAX_CONTEXT}")
    _refuse_the_rest(keys, head_dim)
    return spec


def _count(keys: GgufKeys, name: str, default: int | None = None) -> int:
    value = keys.layer_integer(name, default)
    if value < 1:
        raise keys.error(f"{name} = {value} is not above 0")
    return value


def _head_dim(keys: GgufKeys, hidden_size: int, heads: int) -> int:
    head_dim = _count(keys, "llama.attention.key_length", hidden_size // heads)
    if head_dim % 2:
        raise keys.error(f"a head of {head_dim} dimensions cannot be rotated in pairs")
    for name in ("llama.attention.value_length", "llama.rope.dimension_count"):
        if (value := _count(keys, name, head_dim)) != head_dim:
            raise keys.error(f"{name} = {value} in a head of {head_dim} is not supported")
    return head_dim


def _vocabulary_size(file: GgufFile) -> int:
    shape = file.shapes().get(EMBEDDING, ())
    if len(shape) != 2:
        raise file.error(f"{EMBEDDING} is missing or not a matrix")
    stated = _count(file.keys, "llama.vocab_size", shape[0])
    if stated != shape[0]:
        raise file.error(f"llama.vocab_size is {stated}, but {EMBEDDING} has {shape[0]} rows")
    return shape[0]


def _rotary(file: GgufFile, head_dim: int) -> RotarySpec:
    base = file.keys.number("llama.rope.freq_base", 10000.0)
    if base <= 0:
        raise file.error(f"llama.rope.freq_base = {base} is not above 0")
    return RotarySpec(base, head_dim, _linear_factor(file.keys), _frequency_factors(file, head_dim))


def _linear_factor(keys: GgufKeys) -> float:
    """`rope.scale_linear` is the old name of `rope.scaling.factor`; 0 means unset in both."""
    keys.refuse_unless("llama.rope.scaling.type", "none", "linear")
    names = ("llama.rope.scaling.factor", "llama.rope.scale_linear")
    factors = {keys.number(name) or 1.0 for name in names if keys.has(name)} or {1.0}
    if len(factors) > 1:
        raise keys.error(f"{' and '.join(names)} differ")
    factor = factors.pop()
    if factor < 0:
        raise keys.error(f"a rope scaling factor of {factor} is not above 0")
    if factor != 1.0 and keys.text("llama.rope.scaling.type", "linear") == "none":
        raise keys.error(f"llama.rope.scaling.type is none, but the factor is {factor}")
    return factor


def _frequency_factors(file: GgufFile, head_dim: int) -> tuple[float, ...] | None:
    shape = file.shapes().get(ROPE_FACTORS)
    if shape is None:
        return None
    if shape != (head_dim // 2,):
        raise file.error(f"{ROPE_FACTORS} has shape {list(shape)}, not [{head_dim // 2}]")
    factors = file.tensor(ROPE_FACTORS)
    if (factors <= 0).any():
        raise file.error(f"{ROPE_FACTORS} holds a factor that is not above 0")
    return tuple(float(factor) for factor in factors)


def _refuse_the_rest(keys: GgufKeys, head_dim: int) -> None:
    for name, harmless in _HARMLESS.items():
        keys.refuse_unless(name, *harmless)
    scale = "llama.attention.scale"
    usual = 1 / math.sqrt(head_dim)
    if keys.has(scale) and not math.isclose(keys.number(scale) or usual, usual, rel_tol=1e-6):
        raise keys.error(f"{scale} = {keys.number(scale)} is not supported")
    keys.ignore(_DESCRIPTIVE)
    keys.refuse_unread("llama.")
