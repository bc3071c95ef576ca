"""Checks that tokens do not depend on what else runs, and that memory is freed. Each is a finding.

Knows decoders of one model; does not know how they were made.
"""

import gc
from dataclasses import replace
from functools import partial

import numpy as np

from model_tools.gpu_check.drawing import ComparedSampler, Tally, in_words
from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.loaded import LoadedModel
from model_tools.gpu_check.streams import GREEDY, Streams, alone, random_prompt
from server.config import DeviceKind, PrefixReuse, SamplingParameters
from server.model.gpu.decode_ahead import TRUSTED
from server.model.gpu.decoder import DeviceDecoder
from server.model.tensor_types import Tokens

_LEAVES = 0.4
"""Probability that a request is cancelled when another one arrives."""
_NEVER = 2.0
"""An `ahead_threshold` that no share of calls exceeds: no call is made ahead."""


def in_a_mix(
    model: str,
    decoder: DeviceDecoder,
    new_tokens: int,
    others: int,
    sampling: SamplingParameters = GREEDY,
) -> Finding:
    """Counts the tokens of a request that differ between running alone and in a changing mix of
    others. Each request has a seed of its own. Never fails: kernels round differently for other
    numbers of rows."""
    vocabulary, own = decoder.vocabulary_size, replace(sampling, seed=0)
    prompt = random_prompt(vocabulary, 16)
    expected = alone(decoder, prompt, new_tokens, own)
    streams = Streams(decoder, PrefixReuse.OFF)

    def joins(length: int, seed: int, tokens: int) -> None:
        other = random_prompt(vocabulary, length, seed)
        streams.submit(other, tokens, replace(sampling, seed=seed))

    for seed in range(others // 2):
        joins(8 + seed, 1 + seed, 4 + 3 * seed)
    streams.step()
    sequence = streams.submit(prompt, new_tokens, own)
    for seed in range(others - others // 2):
        streams.step()
        joins(24 + seed, 50 + seed, 9 + seed)
    streams.finish()
    given = np.array(sequence.generated)
    first = int((given != expected).argmax())
    differing = int((given != expected).sum())
    words = f"{differing} of {new_tokens} tokens differ beside {others} others"
    what = f"alone and in a mix, {in_words(sampling)}"
    return Finding(model, what, note=words + f", from {first} on" * bool(differing))


def drawn_against_whole_rows(
    model: str,
    decoder: DeviceDecoder,
    new_tokens: int,
    requests: int,
    sampling: SamplingParameters,
) -> Finding:
    """Draws each token twice from the same logits: as the server does, and from the whole row. The
    two must agree, however logits are rounded."""
    tally = Tally()
    streams = Streams(decoder, PrefixReuse.OFF, partial(ComparedSampler, tally=tally))
    for seed in range(requests):
        prompt = random_prompt(decoder.vocabulary_size, 8 + seed, seed)
        streams.submit(prompt, new_tokens, replace(sampling, seed=seed))
    streams.finish()
    words = f"{tally.differing} of {tally.rows} tokens differ; {tally}"
    what = f"drawn and from whole rows, {in_words(sampling)}"
    return Finding(model, what, note=words, failed=tally.differing > 0)


def graphs_against_launches(
    model: str, replayed: DeviceDecoder, launched: DeviceDecoder, new_tokens: int
) -> Finding:
    """Compares tokens of replayed CUDA graphs with those of the same kernels, launched one by
    one."""
    prompt = random_prompt(replayed.vocabulary_size, 16)
    one, other = (alone(decoder, prompt, new_tokens) for decoder in (replayed, launched))
    return _alike(model, "with and without CUDA graphs", one, other)


def ahead_against_asked(model: LoadedModel, name: str, new_tokens: int) -> Finding:
    """Compares tokens of calls made ahead with those of calls made only when asked for."""
    given = []
    for ahead_threshold in (TRUSTED, _NEVER):
        decoder = model.decoder(
            slots=1, context=2 * new_tokens + 16, ahead_threshold=ahead_threshold
        )
        prompt = random_prompt(decoder.vocabulary_size, 16)
        given.append(alone(decoder, prompt, new_tokens))
        del decoder
        gc.collect()
    return _alike(name, "with and without calls made ahead", *given)


def _alike(model: str, what: str, one: Tokens, other: Tokens) -> Finding:
    """Compares tokens of the same kernels, of which none may differ."""
    differing = int((one != other).sum())
    words = f"{differing} of {len(one)} tokens differ"
    return Finding(model, what, note=words, failed=differing > 0)


def joins_and_leaves(model: LoadedModel, name: str, visitors: int, slots: int) -> Finding:
    """Runs requests that come and go at random. No slot may be lost; reports bytes not freed."""
    decoder = model.decoder(slots=slots, context=128)
    visit(decoder, visitors)  # so that the runtime has allocated what it keeps for such calls
    gc.collect()
    before = model.memory.free_bytes
    cancelled = visit(decoder, visitors)
    gc.collect()
    missing = before - model.memory.free_bytes
    seen = "" if model.memory.device.kind is DeviceKind.CUDA else ", not measured on the CPU"
    words = f"{cancelled} left early, all slots free; {missing} bytes did not come back{seen}"
    what = f"{visitors} requests that join and leave"
    return Finding(name, what, note=words, failed=missing > 0)


def visit(decoder: DeviceDecoder, visitors: int) -> int:
    """Runs requests, and returns how many were cancelled. Prefixes are kept, and freed with the
    engine's core."""
    chance = np.random.default_rng(visitors)
    streams = Streams(decoder)
    here = []
    cancelled = 0
    for seed in range(visitors):
        prompt = random_prompt(decoder.vocabulary_size, int(chance.integers(2, 61)), seed % 7)
        here.append(streams.submit(prompt, int(chance.integers(1, 41))))
        for _ in range(chance.integers(4)):
            streams.step()
        leaving = here[chance.integers(len(here))]
        if chance.random() < _LEAVES and not leaving.ended:
            streams.cancel(leaving)
            leaving.ended = True
            cancelled += 1
    streams.finish()
    if not all(sequence.ended for sequence in here):
        raise RuntimeError("a request that was not cancelled has no end")
    return cancelled
