"""Greedy generation on a decoder alone, without the engine: the plainest loop there is."""

from collections.abc import Sequence

import numpy as np

from server.model.cpu.decoder import CpuDecoder


def greedy(decoder: CpuDecoder, prompts: Sequence[list[int]], new_tokens: int) -> list[list[int]]:
    """Continues all prompts side by side, one slot each; the end of text does not stop them."""
    generated = [
        [int(decoder.prefill(slot, 0, np.array(prompt)).argmax())]
        for slot, prompt in enumerate(prompts)
    ]
    for step in range(new_tokens - 1):
        newest = [tokens[-1] for tokens in generated]
        pasts = [len(prompt) + step for prompt in prompts]
        for tokens, row in zip(generated, decoder.decode(newest, pasts), strict=True):
            tokens.append(int(row.argmax()))
    return generated
