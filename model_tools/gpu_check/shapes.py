"""The models that are made on the spot, and what is measured of each."""

from dataclasses import dataclass

from model_tools.decoder_spec import DecoderSpec, RotarySpec
from model_tools.recipe import WeightType

_LONGEST = 16384
"""Tokens; more only makes the rotary tables larger."""


def llama(
    *,
    layers: int,
    hidden: int,
    inner: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    vocabulary: int,
    tied: bool,
    context: int = _LONGEST,
) -> DecoderSpec:
    """A decoder of Llama 3's kind."""
    return DecoderSpec(
        layers=layers,
        hidden_size=hidden,
        intermediate_size=inner,
        attention_heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary_size=vocabulary,
        context_length=context,
        rms_epsilon=1e-5,
        rotary=RotarySpec(500_000.0, head_dim),
        tied_embedding=tied,
    )


LLAMA_1B = llama(
    layers=16,
    hidden=2048,
    inner=8192,
    heads=32,
    kv_heads=8,
    head_dim=64,
    vocabulary=128_256,
    tied=True,
)
"""Llama 3.2 1B."""
LLAMA_8B = llama(
    layers=32,
    hidden=4096,
    inner=14336,
    heads=32,
    kv_heads=8,
    head_dim=128,
    vocabulary=128_256,
    tied=False,
)
"""Llama 3.1 8B."""
TINY = llama(
    layers=2,
    hidden=64,
    inner=96,
    heads=4,
    kv_heads=2,
    head_dim=16,
    vocabulary=512,
    tied=True,
    context=1024,
)
"""For the rehearsal."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    small: DecoderSpec
    large: DecoderSpec
    weights: tuple[WeightType, ...]
    """The first one is compared with the CPU and with `transformers`."""
    batches: tuple[int, ...]
    few_batches: tuple[int, ...]
    """Some of these, where the others would say little more."""
    pasts: tuple[int, ...]
    prompts: tuple[int, ...]
    steps: int
    """Decode steps that are timed."""
    text: int
    """Tokens that are read or generated where tokens are compared."""
    visitors: int
    """Requests that join and leave."""
    copied: int
    """Bytes that are copied to see how fast memory is."""


ON_A_GPU = Scale(
    small=LLAMA_1B,
    large=LLAMA_8B,
    weights=(WeightType.FP16, WeightType.INT4),
    batches=(1, 8, 32, 64, 128),
    few_batches=(1, 32),
    pasts=(0, 2000, 8000),
    prompts=(512, 2000),
    steps=64,
    text=64,
    visitors=200,
    copied=4 << 30,
)
REHEARSAL = Scale(
    small=TINY,
    large=TINY,
    weights=(WeightType.FP16, WeightType.INT4),
    batches=(1, 4, 64),
    few_batches=(1, 4),
    pasts=(0, 20),
    prompts=(16, 40),
    steps=4,
    text=12,
    visitors=20,
    copied=1 << 20,
)
"""So that every line that needs no GPU has run before there is one. The graphs are those for CUDA:
the CPU has kernels for all of it in float16, slow ones."""
