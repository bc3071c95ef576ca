"""Measures one model's speed, cell by cell, beside `transformers` with the same weights.

Knows the order and how time is shared; does not know which cells there are or how they are timed.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from model_tools.decoder_spec import DecoderSpec
from model_tools.gpu_check import peer
from model_tools.gpu_check.cells import Cell, Measured
from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.loaded import LoadedModel
from model_tools.gpu_check.measures import copy_bandwidth, decode_speed, prompt_speed
from model_tools.gpu_check.nearness import LARGEST_KL, against, read
from model_tools.gpu_check.outcome import outcomes
from model_tools.gpu_check.setting import Setting
from model_tools.gpu_check.streams import random_prompt
from model_tools.verification.comparison import Rows, Tokens
from model_tools.weights.random_source import RandomSource

_TEXTS = 4
_PEERS_SHARE = 0.5
"""Share of a part's time after which `transformers` begins nothing more."""
_PEERS_PART = 4
"""Divides the steps for `transformers`, which takes 100 ms for each where the host is slow."""
_PEERS_TOKENS = 20_000
"""Most tokens of a cell's prompts together that `transformers` reads. It reads them three times,
and more would take time from Skiff's own cells."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Logits and speeds of `transformers`; empty without it."""

    texts: list[Tokens]
    logits: list[Rows]
    speeds: Mapping[tuple[int, int], float | str]
    """Tokens per second by batch and past, or the reason why there is no figure."""


_NOTHING = Reference([], [], {})


def speeds(
    setting: Setting, name: str, spec: DecoderSpec, models: Sequence[Measured]
) -> Iterator[Finding]:
    """Measures each model in turn, with a share of the remaining time by its number of cells."""
    references: list[Reference] = []

    def refer() -> tuple[Finding, ...]:
        references.append(_reference(setting, spec))
        return ()

    unmade = Finding(name, "transformers")
    if peer.PRESENT:
        yield from outcomes(setting.end, unmade, refer)
    else:
        yield replace(unmade, note=f"skipped: {peer.MISSING}", skipped=True)
    reference = references[0] if references else _NOTHING
    for index, measured in enumerate(models):
        share = len(measured.cells) / sum(len(each.cells) for each in models[index:])
        unmade = Finding(f"{name} {measured.kind}", "speed")
        run = partial(_of_one, setting, name, spec, measured, reference, share)
        yield from outcomes(setting.end, unmade, run)


def _of_one(
    setting: Setting,
    name: str,
    spec: DecoderSpec,
    measured: Measured,
    reference: Reference,
    share: float,
) -> Iterator[Finding]:
    title = f"{name} {measured.kind}"
    model = setting.made(name, RandomSource(spec), measured.kind)
    if reference.logits:
        decoder = model.decoder(slots=1, context=setting.scale.text)
        given = [read(decoder, text) for text in reference.texts]
        del decoder
        gc.collect()
        what = "logits against transformers"
        largest_kl = LARGEST_KL if measured.kind.is_near else math.inf
        yield against(title, what, reference.logits, given, reference.texts, largest_kl)
    until = time.monotonic() + share * setting.left()
    yield from _cells(setting, model, title, measured.cells, reference, until)


def _reference(setting: Setting, spec: DecoderSpec) -> Reference:
    length = setting.scale.text
    texts = [random_prompt(spec.vocabulary_size, length, seed) for seed in range(_TEXTS)]
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
    return Reference(texts, logits, speeds)


def _peer_speed(setting: Setting, other: peer.Peer, prompt: Tokens, batch: int) -> float | str:
    if batch * len(prompt) > _PEERS_TOKENS:
        return "transformers: left out, reads too long"
    if setting.left(_PEERS_SHARE) < 0:
        return "transformers: no time left"
    try:
        return other.tokens_per_second(prompt, batch, -(-setting.scale.steps // _PEERS_PART))
    except RuntimeError as error:  # such as torch's, where memory is short
        return f"transformers: {str(error).partition('.')[0]}"


def _cells(
    setting: Setting,
    model: LoadedModel,
    title: str,
    cells: Sequence[Cell],
    reference: Reference,
    until: float,
) -> Iterator[Finding]:
    scale = setting.scale
    bandwidth = copy_bandwidth(model.memory, scale.copied)
    yield Finding(title, "copy inside the device", note=f"{bandwidth / 1e9:.0f} GB/s")
    for tokens in scale.prompts:
        unmade = Finding(title, f"prompt of {tokens}")
        yield from _outcome(until, unmade, partial(prompt_speed, model, title, tokens))
    for cell in cells:
        measure = partial(
            decode_speed,
            model,
            title,
            cell,
            steps=scale.steps,
            bandwidth=bandwidth,
            kernels=peer.device_seconds,
        )
        speed = reference.speeds.get((cell.batch, cell.past)) if cell.greedy else None
        unmade = Finding(title, cell.what, cell.batch, cell.past)
        for finding in _outcome(until, unmade, measure):
            yield _beside(finding, speed)


def _outcome(until: float, unmade: Finding, make: Callable[[], Finding]) -> Iterator[Finding]:
    """`outcomes` of a single finding."""
    return outcomes(until, unmade, lambda: [make()])


def _beside(finding: Finding, speed: float | str | None) -> Finding:
    if isinstance(speed, str):
        return replace(finding, note="; ".join(filter(None, [finding.note, speed])))
    return replace(finding, transformers=speed)
