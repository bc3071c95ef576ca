"""One model's speed, cell by cell, beside `transformers` on the same weights.

Knows which cells there are, and that some do not fit or come too late; the figures are made
elsewhere.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from model_tools.comparison import Rows, Tokens
from model_tools.decoder_spec import DecoderSpec
from model_tools.gpu_check import peer
from model_tools.gpu_check.checks import against, read
from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.loaded import DoesNotFit, LoadedModel
from model_tools.gpu_check.measures import copy_bandwidth, decode_speed, prompt_speed
from model_tools.gpu_check.random_source import RandomSource
from model_tools.gpu_check.setting import Setting
from model_tools.gpu_check.streams import random_prompt
from server.errors import StartError

_TEXTS = 4
_PEERS_SHARE = 0.5
"""Of the time of a part: what `transformers` has not begun by then is left out."""
_PEERS_PART = 4
"""It generates so many times fewer tokens: one takes it 100 ms where the host is slow."""
_PEERS_TOKENS = 20_000
"""Of all prompts of a cell together: it reads them three times, and more would take its time from
Skiff's own cells."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What `transformers` says and how fast, if it is there."""

    logits: list[Rows]
    speeds: Mapping[tuple[int, int], float | str]
    """Tokens per second by batch and past; words where there is no figure."""


def speeds(setting: Setting, name: str, spec: DecoderSpec) -> Iterator[Finding]:
    """Of each kind in turn."""
    scale = setting.scale
    texts = [random_prompt(spec.vocabulary_size, scale.text, seed) for seed in range(_TEXTS)]
    if not peer.PRESENT:
        yield Finding(name, "transformers", note=f"skipped: {peer.MISSING}")
    reference = _reference(setting, spec, texts)
    for index, kind in enumerate(setting.kinds):
        title = f"{name} {kind}"
        if setting.left() < 0:
            yield Finding(title, "speed", note="skipped: no time left")
            continue
        try:
            model = setting.made(name, RandomSource(spec), kind)
        except StartError as error:
            yield Finding(title, "speed", note=f"skipped: {error}")
            continue
        if reference.logits:
            decoder = model.decoder(slots=1, context=scale.text)
            given = [read(decoder, text) for text in texts]
            del decoder
            what = "logits against transformers"
            yield against(title, what, reference.logits, given, texts)
        fair = setting.left() / (len(setting.kinds) - index)
        yield from _cells(setting, model, title, reference, time.monotonic() + fair)
        del model
        gc.collect()


def _reference(setting: Setting, spec: DecoderSpec, texts: list[Tokens]) -> Reference:
    if not peer.PRESENT:
        return Reference([], {})
    other = peer.Peer(RandomSource(spec), setting.device)
    logits = [other.logits(text) for text in texts]
    speeds: dict[tuple[int, int], float | str] = {}
    for past in setting.scale.pasts:
        prompt = random_prompt(spec.vocabulary_size, past)
        for batch in setting.scale.batches:
            speeds[batch, past] = _peer_speed(setting, other, prompt, batch)
    del other
    gc.collect()
    peer.free_memory()
    return Reference(logits, speeds)


def _peer_speed(setting: Setting, other: peer.Peer, prompt: Tokens, batch: int) -> float | str:
    if batch * len(prompt) > _PEERS_TOKENS:
        return "transformers: left out, reads too long"
    if setting.left(_PEERS_SHARE) < 0:
        return "transformers: no time left"
    try:
        return other.tokens_per_second(prompt, batch, -(-setting.scale.steps // _PEERS_PART))
    except RuntimeError as error:  # torch's own, where memory is short
        return f"transformers: {str(error).partition('.')[0]}"


def _cells(
    setting: Setting, model: LoadedModel, title: str, reference: Reference, until: float
) -> Iterator[Finding]:
    scale = setting.scale
    bandwidth = copy_bandwidth(model.memory, scale.copied)
    yield Finding(title, "copy inside the device", note=f"{bandwidth / 1e9:.0f} GB/s")
    for tokens in scale.prompts:
        unmade = Finding(title, f"prompt of {tokens}")
        yield _cell(until, unmade, partial(prompt_speed, model, title, tokens))
    for past in scale.pasts:
        for batch in scale.batches:
            measure = partial(
                decode_speed,
                model,
                title,
                batch=batch,
                past=past,
                steps=scale.steps,
                bandwidth=bandwidth,
                kernels=peer.device_seconds,
            )
            finding = _cell(until, Finding(title, "decode", batch, past), measure)
            yield _beside(finding, reference.speeds.get((batch, past)))


def _cell(until: float, unmade: Finding, measure: Callable[[], Finding]) -> Finding:
    if time.monotonic() > until:
        return replace(unmade, note="skipped: no time left")
    try:
        return measure()
    except DoesNotFit as error:
        return replace(unmade, note=f"skipped, does not fit: {error}")
    finally:
        gc.collect()


def _beside(finding: Finding, speed: float | str | None) -> Finding:
    if isinstance(speed, str):
        return replace(finding, note="; ".join(filter(None, [finding.note, speed])))
    return replace(finding, transformers=speed)
