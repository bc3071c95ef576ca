"""The three parts: what is made, checked and measured, in which order.

Knows the order; each thing is done elsewhere.
"""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace

from model_tools.comparison import Tokens
from model_tools.decoder_spec import DecoderSpec, WeightSource
from model_tools.gguf_source import GgufSource
from model_tools.gpu_check.checks import (
    CpuReference,
    against,
    ahead_against_asked,
    graphs_against_launches,
    greedy_against,
    in_a_mix,
    joins_and_leaves,
    read,
)
from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.goals import goals
from model_tools.gpu_check.random_source import RandomSource
from model_tools.gpu_check.setting import Kind, Setting
from model_tools.gpu_check.speeds import speeds
from model_tools.gpu_check.streams import random_prompt
from model_tools.recipe import KvLayout
from server.config import CPU
from server.errors import StartError

_TEXTS = 4
_PROMPT = 8
"""Tokens."""


def checks(setting: Setting) -> Iterator[Finding]:
    """Tokens and memory, on the default model and the small one; the latter over pages, too, and
    with integers."""
    slots = Kind(setting.scale.weights[0])
    if setting.default_model is None:
        yield Finding("SmolLM2", "against the CPU in fp32", note="skipped: no --gguf file")
    else:
        opened = GgufSource.open(setting.default_model)
        own = _on_the_cpu(setting, "SmolLM2", opened)
        yield from _against_cpu(setting, "SmolLM2", opened, slots, own)
    source = RandomSource(setting.scale.small)
    own = _on_the_cpu(setting, "1b", source)
    for kind in (slots, replace(slots, kv_layout=KvLayout.PAGES)):
        try:
            yield from _against_cpu(setting, "1b", source, kind, own)
            yield from _by_itself(setting, "1b", source, kind)
        except StartError as error:
            yield Finding(f"1b {kind}", "checks", note=f"skipped: {error}")
        gc.collect()
    for kind in map(Kind, setting.scale.weights[1:]):
        try:
            yield _against_itself(setting, "1b", source, kind)
        except StartError as error:
            yield Finding(f"1b {kind}", "checks", note=f"skipped: {error}")


def _by_itself(setting: Setting, name: str, source: WeightSource, kind: Kind) -> Iterator[Finding]:
    """Whatever else runs, and however it is launched."""
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


def _on_the_cpu(setting: Setting, name: str, source: WeightSource) -> CpuReference:
    decoder = setting.on_the_cpu(name, source, 1, _context(setting, source.spec))
    return CpuReference(decoder, _texts(setting, source.spec), _PROMPT)


def _against_cpu(
    setting: Setting, name: str, source: WeightSource, kind: Kind, own: CpuReference
) -> Iterator[Finding]:
    context = _context(setting, source.spec)
    device = setting.made(name, source, kind).decoder(slots=1, context=context)
    title = f"{name} {kind}"
    given = [read(device, text) for text in own.texts]
    yield against(title, "logits against the CPU in fp32", own.logits, given, own.texts)
    yield greedy_against(title, own, device)


def _against_itself(setting: Setting, name: str, source: WeightSource, kind: Kind) -> Finding:
    """The same graph on the CPU: of integers, the model in fp32 is too far for a comparison."""
    context, texts = _context(setting, source.spec), _texts(setting, source.spec)
    given, expected = (
        [read(decoder, text) for text in texts]
        for decoder in (
            each.made(name, source, kind).decoder(slots=1, context=context)
            for each in (setting, replace(setting, device=CPU))
        )
    )
    what = "logits against the same graph on the CPU"
    return against(f"{name} {kind}", what, expected, given, texts)


def small(setting: Setting) -> Iterator[Finding]:
    """Speed of the small model."""
    yield from speeds(setting, "1b", setting.scale.small)


def large(setting: Setting) -> Iterator[Finding]:
    """The large model against `transformers`, its speed, and the goals."""
    found = []
    for finding in speeds(setting, "8b", setting.scale.large):
        found.append(finding)
        yield finding
    wide, narrow = setting.scale.weights
    yield from goals(found, "8b", str(narrow), str(wide))


def _texts(setting: Setting, spec: DecoderSpec) -> list[Tokens]:
    length = setting.scale.text
    return [random_prompt(spec.vocabulary_size, length, seed) for seed in range(_TEXTS)]


def _context(setting: Setting, spec: DecoderSpec) -> int:
    """Tokens for a prompt of the checks and what is generated after it."""
    return min(4 * setting.scale.text + 64, spec.context_length)


PARTS: dict[str, Callable[[Setting], Iterator[Finding]]] = {
    "checks": checks,
    "1b": small,
    "8b": large,
}
