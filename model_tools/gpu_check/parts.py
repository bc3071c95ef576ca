"""The three parts of the command: what is made, checked and measured, in which order.

Knows the order; does not know how things are checked or measured.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial

from model_tools.decoder_spec import DecoderSpec, WeightSource
from model_tools.gguf.source import GgufSource
from model_tools.gpu_check.cells import at_length, drawn, in_brief
from model_tools.gpu_check.checks import (
    ahead_against_asked,
    drawn_against_whole_rows,
    graphs_against_launches,
    in_a_mix,
    joins_and_leaves,
)
from model_tools.gpu_check.drawing import DRAWN
from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.goals import goals
from model_tools.gpu_check.nearness import (
    CpuReference,
    against,
    greedy_against,
    logits_against,
    read,
)
from model_tools.gpu_check.outcome import outcomes
from model_tools.gpu_check.setting import Kind, Setting
from model_tools.gpu_check.speeds import speeds
from model_tools.gpu_check.streams import random_prompt
from model_tools.recipe import KvLayout
from model_tools.verification.comparison import Tokens
from model_tools.weights.random_source import RandomSource
from server.config import CPU

_TEXTS = 4
_PROMPT = 8
"""Tokens."""

Check = Callable[[Setting, str, WeightSource, Kind], Iterator[Finding]]
"""Checks a model by name, weights and kind. Raises `StartError`."""


def checks(setting: Setting) -> Iterator[Finding]:
    """Checks tokens and memory, with the default model and with the small one in several kinds."""
    slots = Kind(setting.scale.weights[0])
    paged = replace(slots, kv_layout=KvLayout.PAGES)
    if setting.default_model is None:
        note = "skipped: no --gguf file"
        yield Finding("SmolLM2", "against the CPU in fp32", note=note, skipped=True)
    else:
        opened = GgufSource.open(setting.default_model)
        own = cache(partial(_on_the_cpu, setting, "SmolLM2", opened))
        run = partial(_against_cpu, setting, "SmolLM2", opened, slots, own)
        unmade = Finding(f"SmolLM2 {slots}", "against the CPU in fp32")
        yield from outcomes(setting.end, unmade, run)
    source = RandomSource(setting.scale.small)
    near = partial(_against_cpu, own=cache(partial(_on_the_cpu, setting, "1b", source)))
    integers = [
        kind for kind in (*setting.kinds, *setting.further_kinds) if kind.weights.is_integer
    ]
    todo: list[tuple[str, Check, Sequence[Kind]]] = [
        ("against the CPU in fp32", near, (slots, paged, *setting.further_kinds)),
        ("by itself", _by_itself, (slots, paged)),
        ("drawn tokens", _drawn, (slots,)),
        ("against the same graph on the CPU", _against_itself, integers),
    ]
    for what, check, kinds in todo:
        for kind in kinds:
            run = partial(check, setting, "1b", source, kind)
            yield from outcomes(setting.end, Finding(f"1b {kind}", what), run)


def _by_itself(setting: Setting, name: str, source: WeightSource, kind: Kind) -> Iterator[Finding]:
    """Checks that tokens depend neither on what else runs nor on how and when calls are launched,
    and that memory is freed."""
    title, context = f"{name} {kind}", _context(setting, source.spec)
    model = setting.made(name, source, kind)
    decoder = model.decoder(slots=8, context=context)
    yield in_a_mix(title, decoder, setting.scale.text, others=12)
    launched = setting.made(name, source, kind, cuda_graphs=False)
    other = launched.decoder(slots=8, context=context)
    yield graphs_against_launches(title, decoder, other, setting.scale.text)
    del decoder, other, launched
    gc.collect()
    yield ahead_against_asked(model, title, setting.scale.text)
    yield joins_and_leaves(model, title, setting.scale.visitors, slots=8)


def _drawn(setting: Setting, name: str, source: WeightSource, kind: Kind) -> Iterator[Finding]:
    """Checks sampled tokens, with seeds. All of `DRAWN` are compared between candidates and whole
    rows; where few tokens can be drawn, also between a request alone and in a mix."""
    title, tokens = f"{name} {kind}", setting.scale.text
    model = setting.made(name, source, kind)
    decoder = model.decoder(slots=8, context=_context(setting, source.spec))
    for sampling in DRAWN:
        # Kernels round differently for other numbers of rows. With random weights all tokens are
        # nearly as likely: drawn from all, every second one differs; from the first 40, few do.
        if sampling.top_k:
            yield in_a_mix(title, decoder, tokens, others=12, sampling=sampling)
        yield drawn_against_whole_rows(title, decoder, tokens, requests=4, sampling=sampling)


def _on_the_cpu(setting: Setting, name: str, source: WeightSource) -> CpuReference:
    decoder = setting.on_the_cpu(name, source, 1, _context(setting, source.spec))
    return CpuReference(decoder, _texts(setting, source.spec), _PROMPT)


def _against_cpu(
    setting: Setting,
    name: str,
    source: WeightSource,
    kind: Kind,
    own: Callable[[], CpuReference],
) -> Iterator[Finding]:
    reference, context = own(), _context(setting, source.spec)
    device = setting.made(name, source, kind).decoder(slots=_TEXTS, context=context)
    yield from logits_against(f"{name} {kind}", reference, device)
    yield greedy_against(f"{name} {kind}", reference, device, is_16_bit=kind.is_16_bit)


def _against_itself(
    setting: Setting, name: str, source: WeightSource, kind: Kind
) -> Iterator[Finding]:
    """Compares with the same graph on the CPU. Integer weights are the same, so only kernels
    differ."""
    context, texts = _context(setting, source.spec), _texts(setting, source.spec)
    given, expected = (
        [read(decoder, text) for text in texts]
        for decoder in (
            each.made(name, source, kind).decoder(slots=1, context=context)
            for each in (setting, replace(setting, device=CPU))
        )
    )
    what = "logits against the same graph on the CPU"
    yield against(f"{name} {kind}", what, expected, given, texts)


def small(setting: Setting) -> Iterator[Finding]:
    """Measures the small model's speed: in all kinds, and with sampling in the first one."""
    first, *others = at_length(setting)
    first = replace(first, cells=first.cells + drawn(setting))
    models = [first, *others, *in_brief(setting)]
    yield from speeds(setting, "1b", setting.scale.small, models)


def large(setting: Setting) -> Iterator[Finding]:
    """Compares the large model with `transformers`, measures its speed, and judges the goals."""
    found = []
    for finding in speeds(setting, "8b", setting.scale.large, at_length(setting)):
        found.append(finding)
        yield finding
    if not all(finding.skipped for finding in found):
        wide, narrow = setting.scale.weights
        yield from goals(found, "8b", str(narrow), str(wide))


def _texts(setting: Setting, spec: DecoderSpec) -> list[Tokens]:
    length = setting.scale.text
    return [random_prompt(spec.vocabulary_size, length, seed) for seed in range(_TEXTS)]


def _context(setting: Setting, spec: DecoderSpec) -> int:
    """Tokens for a prompt of the checks and what it generates."""
    return min(4 * setting.scale.text + 64, spec.context_length)


PARTS: dict[str, Callable[[Setting], Iterator[Finding]]] = {
    "checks": checks,
    "1b": small,
    "8b": large,
}
