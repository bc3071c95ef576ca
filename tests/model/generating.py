"""What the engine makes of prompts, over any decoder."""

import numpy as np
from numpy.typing import NDArray

from server.config import PrefixCacheConfig, PrefixReuse, SamplingParameters
from server.engine.core import EngineCore
from server.engine.decoder import Decoder
from server.engine.drafter import LookupDrafter
from server.engine.sampling import Sampler
from server.engine.sequence import Sequence
from server.engine.windowed_text import WindowedText
from tests.engine.paces import SteadyPacer, tokens_a_step

GREEDY = SamplingParameters()


def generated(
    decoder: Decoder,
    prompts: list[NDArray[np.int64]],
    parameters: SamplingParameters,
    new_tokens: int,
    *,
    draft: int = 0,
    leaving: int | None = None,
    reuse: PrefixReuse = PrefixReuse.ALL,
) -> list[list[int]]:
    """What the engine makes of prompts that come one a step; of `leaving`, if any, only 3 tokens
    are asked for."""
    core = core_of(decoder, reuse)
    sequences = [
        sequence_of(
            key, prompt, 3 if key == leaving else new_tokens, parameters=parameters, draft=draft
        )
        for key, prompt in enumerate(prompts)
    ]
    for sequence in sequences:
        core.submit(sequence)
        core.step(lambda: None)
    while core.busy:
        core.step(lambda: None)
    return [sequence.generated for sequence in sequences]


def core_of(decoder: Decoder, reuse: PrefixReuse = PrefixReuse.ALL) -> EngineCore:
    """With room for a few kept prefixes."""
    return EngineCore(
        decoder,
        lambda messages: None,
        SteadyPacer(tokens_a_step(64, 16)),
        PrefixCacheConfig(reuse, 2**16),
    )


def sequence_of(
    key: int,
    prompt: NDArray[np.int64],
    new_tokens: int,
    *,
    parameters: SamplingParameters = GREEDY,
    draft: int = 0,
) -> Sequence:
    return Sequence(
        key=key,
        prompt=prompt,
        max_tokens=new_tokens,
        eos_token_ids=frozenset(),
        sampler=Sampler(parameters, prompt),
        text=WindowedText(lambda tokens: ""),
        drafter=LookupDrafter(prompt, draft) if draft else None,
    )
