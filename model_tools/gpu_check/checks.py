"""Whether tokens are right, whatever else runs, and memory comes back. Each check is one finding.

Knows two decoders of one model; does not know how they were made.
"""

import gc
from collections.abc import Iterable, Sequence

import numpy as np

from model_tools.comparison import Comparison, Rows, Tokens, measure
from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.loaded import LoadedModel
from model_tools.gpu_check.streams import Streams, random_prompt
from server.config import DeviceKind, PrefixReuse
from server.model.candidates import Candidates
from server.model.device_decoder import DeviceDecoder
from server.model.foresight import TRUSTED
from server.model.session import OnnxDecoder

_LEAVES = 0.4
"""How often somebody who is there leaves when another one comes."""
_NEVER = 2.0
"""As the share of calls from which on foresight is trusted."""
_SURE = 0.5
"""A logit's distance to the next one that rounding to 16 bits does not bridge."""


def read(decoder: OnnxDecoder | DeviceDecoder, text: Tokens) -> Rows:
    """The logits after each token of a text but the last."""
    rows = decoder.prefill(0, 0, text[:-1], logits_to_keep=0)
    if isinstance(rows, np.ndarray):
        return rows.copy()
    return np.stack([row.whole() for row in rows if isinstance(row, Candidates)])


def against(
    model: str,
    what: str,
    reference: Iterable[Rows],
    logits: Iterable[Rows],
    texts: Sequence[Tokens],
) -> Finding:
    """How far logits are from those that are right, over the same texts."""
    parts = [
        measure(right, rows, text[1:])
        for right, rows, text in zip(reference, logits, texts, strict=True)
    ]
    found = Comparison.of(parts)
    words = f"{found.tokens} tokens: mean KL {found.mean_kl:.2g}"
    return Finding(model, what, note=f"{words}, top-1 agreement {found.top1_agreement:.1%}")


class CpuReference:
    """What the CPU's own decoder makes of texts, in fp32: computed once."""

    def __init__(self, decoder: OnnxDecoder, texts: Sequence[Tokens], prompt: int) -> None:
        """Of each text, all logits, and a greedy continuation of its first `prompt` tokens, as long
        as the text."""
        self.decoder = decoder
        self.texts = texts
        self.prompts = [text[:prompt] for text in texts]
        self.logits = [read(decoder, text) for text in texts]
        self.continuations = [alone(decoder, each, len(texts[0])) for each in self.prompts]


def greedy_against(model: str, reference: CpuReference, decoder: DeviceDecoder) -> Finding:
    """Continuations of all prompts, each alone; where one differs first, by how much the other
    token would have had to win."""
    equal, margins = 0, []
    new_tokens = len(reference.texts[0])
    for prompt, right in zip(reference.prompts, reference.continuations, strict=True):
        given = alone(decoder, prompt, new_tokens)
        same = next((n for n in range(new_tokens) if right[n] != given[n]), new_tokens)
        equal += same
        if same < new_tokens:
            text = np.concatenate([prompt, right[:same], right[same : same + 1]])
            row = read(reference.decoder, text)[-1]
            margins.append(float(row[right[same]] - row[given[same]]))
    total = len(reference.prompts) * new_tokens
    words = f"{equal} of {total} tokens before the first that differs"
    if margins:
        sure = sum(margin > _SURE for margin in margins)
        words += f"; margins there up to {max(margins):.2g}, {sure} above {_SURE}"
    return Finding(model, "greedy tokens against the CPU in fp32", note=words)


def alone(decoder: OnnxDecoder | DeviceDecoder, prompt: Tokens, new_tokens: int) -> Tokens:
    """Greedy tokens of a request that has the engine for itself."""
    streams = Streams(decoder, PrefixReuse.OFF)
    sequence = streams.submit(prompt, new_tokens)
    streams.finish()
    return np.array(sequence.generated)


def in_a_mix(model: str, decoder: DeviceDecoder, new_tokens: int, others: int) -> Finding:
    """How many tokens of a request differ between alone and in a mix that comes and goes."""
    vocabulary = decoder.vocabulary_size
    prompt = random_prompt(vocabulary, 16)
    expected = alone(decoder, prompt, new_tokens)
    streams = Streams(decoder, PrefixReuse.OFF)
    for seed in range(others // 2):
        streams.submit(random_prompt(vocabulary, 8 + seed, 1 + seed), 4 + 3 * seed)
    streams.step()
    sequence = streams.submit(prompt, new_tokens)
    for seed in range(others - others // 2):
        streams.step()
        streams.submit(random_prompt(vocabulary, 24 + seed, 50 + seed), 9 + seed)
    streams.finish()
    given = np.array(sequence.generated)
    first = int((given != expected).argmax())
    differing = int((given != expected).sum())
    words = f"{differing} of {new_tokens} tokens differ beside {others} others"
    return Finding(model, "alone and in a mix", note=words + f", from {first} on" * bool(differing))


def graphs_against_launches(
    model: str, replayed: DeviceDecoder, launched: DeviceDecoder, new_tokens: int
) -> Finding:
    """What CUDA graphs give, and what the same kernels give when each is launched."""
    prompt = random_prompt(replayed.vocabulary_size, 16)
    one, other = (alone(decoder, prompt, new_tokens) for decoder in (replayed, launched))
    differing = int((one != other).sum())
    return Finding(
        model, "with and without CUDA graphs", note=f"{differing} of {new_tokens} tokens differ"
    )


def ahead_against_asked(model: LoadedModel, name: str, new_tokens: int) -> Finding:
    """What calls give that were made before they were asked for, and what they give afterwards."""
    given = []
    for least in (TRUSTED, _NEVER):
        decoder = model.decoder(slots=1, context=2 * new_tokens + 16, least_foresight=least)
        prompt = random_prompt(decoder.vocabulary_size, 16)
        given.append(alone(decoder, prompt, new_tokens))
        del decoder
        gc.collect()
    differing = int((given[0] != given[1]).sum())
    words = f"{differing} of {new_tokens} tokens differ"
    return Finding(name, "with and without calls made ahead", note=words)


def joins_and_leaves(model: LoadedModel, name: str, visitors: int, slots: int) -> Finding:
    """Requests that come and go at random: no slot is lost, and memory is free again."""
    decoder = model.decoder(slots=slots, context=128)
    visit(decoder, visitors)  # what the runtime keeps for such calls, it has now
    gc.collect()
    before = model.memory.free_bytes
    cancelled = visit(decoder, visitors)
    gc.collect()
    missing = before - model.memory.free_bytes
    seen = "" if model.memory.device.kind is DeviceKind.CUDA else ", not measured on the CPU"
    words = f"{cancelled} left early, all slots free; {missing} bytes did not come back{seen}"
    return Finding(name, f"{visitors} requests that join and leave", note=words)


def visit(decoder: DeviceDecoder, visitors: int) -> int:
    """How many were cancelled. With kept prefixes, which go with the engine."""
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
