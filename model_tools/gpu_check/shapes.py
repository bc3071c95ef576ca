"""Shapes of the models that are made for the run, and how much is measured of each."""

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
    """A decoder of Llama 3's architecture."""
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
    tied=False,
    context=1024,
)
"""For the rehearsal. With a tied embedding so few layers would repeat a prompt's last token."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Models, and how much is checked and measured of them."""

    small: DecoderSpec
    large: DecoderSpec
    weights: tuple[WeightType, ...]
    """16-bit and 4-bit ones, in this order, for the goals. Pages and integer keys and values are
    tried with the first only."""
    batches: tuple[int, ...]
    few_batches: tuple[int, ...]
    """Some of `batches`, where the others would show little more."""
    pasts: tuple[int, ...]
    """Tokens in the KV cache of each row before the steps that are timed."""
    prompts: tuple[int, ...]
    """Lengths of prompts that are timed."""
    steps: int
    """Decode steps that are timed."""
    text: int
    """Tokens that are read or generated in comparisons."""
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
"""To run every line that needs no GPU before there is one. The graphs are those for CUDA. The CPU
has kernels for them in float16, slow ones, except for pages; bfloat16 and pages are skipped."""
