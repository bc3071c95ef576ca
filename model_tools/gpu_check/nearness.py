"""Compares a device's logits and tokens with a reference. Each comparison is a finding.

Knows decoders of one model; does not know how they were made.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.streams import alone
from model_tools.verification.comparison import Comparison, Rows, Tokens, measure
from model_tools.verification.verify import whole
from server.engine.decoder import Decoder

LARGEST_KL = 0.02
"""Largest mean KL divergence in nats that rounding explains; more is a mistake. In random models of
16 layers, bfloat16 costs 0.002, 8-bit weights 0.006 (both in the 1B's shape), 8-bit keys and values
0.003; keys and values off by 5 % cost 0.05, another rope base 1.4, rotating the wrong pairs 2."""
_SURE = 0.5
"""Margin between two logits that rounding to 16 bits cannot reverse."""


def read(decoder: Decoder, text: Tokens) -> Rows:
    """The logits after each token of a text except the last, read as one prompt."""
    return whole(decoder.prefill(0, 0, text[:-1], logits_to_keep=0)).copy()


def decoded(decoder: Decoder, texts: Sequence[Tokens], prompt: int) -> list[Rows]:
    """The same logits from the `prompt`-th token on, of texts of one length, from decode steps: the
    texts are decoded side by side, over keys and values as the KV cache stores them."""
    for slot, text in enumerate(texts):
        decoder.prefill(slot, 0, text[:prompt])
    steps = []
    for past in range(prompt, len(texts[0]) - 1):
        tokens = [int(text[past]) for text in texts]
        steps.append(whole(decoder.decode(tokens, [past] * len(texts), again=False)).copy())
    for slot in range(len(texts)):
        decoder.release(slot)
    return list(np.stack(steps, axis=1))


def against(
    model: str,
    what: str,
    reference: Iterable[Rows],
    logits: Iterable[Rows],
    texts: Sequence[Tokens],
    largest_kl: float = LARGEST_KL,
) -> Finding:
    """Compares logits with those of a reference, over the last tokens of the same texts. A mean KL
    above `largest_kl`, or NaN, is reported as wrong."""
    parts = [
        measure(right, rows, text[-len(rows) :])
        for right, rows, text in zip(reference, logits, texts, strict=True)
    ]
    found = Comparison.of(parts)
    words = f"{found.tokens} tokens: mean KL {found.mean_kl:.2g}"
    words += f", top-1 agreement {found.top1_agreement:.1%}"
    wrong = not found.mean_kl <= largest_kl  # not `>`: a broken graph may give NaN
    if wrong:
        words += f"; WRONG, more than {largest_kl} is not rounding"
    return Finding(model, what, note=words, failed=wrong)


class CpuReference:
    """Logits and continuations of texts by the CPU's own decoder, in fp32, computed once."""

    def __init__(self, decoder: Decoder, texts: Sequence[Tokens], prompt: int) -> None:
        """Computes all logits of each text, and a greedy continuation of its first `prompt` tokens
        with as many new tokens as the text has."""
        self.decoder = decoder
        self.texts = texts
        self.prompt = prompt
        self.prompts = [text[:prompt] for text in texts]
        self.logits = [read(decoder, text) for text in texts]
        self.continuations = [alone(decoder, each, len(texts[0])) for each in self.prompts]


def logits_against(model: str, reference: CpuReference, decoder: Decoder) -> Iterable[Finding]:
    """Compares logits of the texts, read as prompts and in decode steps."""
    texts, start = reference.texts, reference.prompt
    given = [read(decoder, text) for text in texts]
    yield against(model, "logits against the CPU in fp32", reference.logits, given, texts)
    right = [rows[start:] for rows in reference.logits]
    given = decoded(decoder, texts, start)
    yield against(model, "decoded logits against the CPU in fp32", right, given, texts)


def greedy_against(
    model: str, reference: CpuReference, decoder: Decoder, *, is_16_bit: bool
) -> Finding:
    """Compares greedy continuations of all prompts, each run alone. Where one first differs, the
    margin is the reference's logit of its own token less that of the other token. With 16 bits, a
    margin above `_SURE` is reported as wrong."""
    equal, sure, margins = 0, 0, []
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
    wrong = is_16_bit and sure > 0
    if wrong:
        words += "; WRONG, that is not rounding"
    return Finding(model, "greedy tokens against the CPU in fp32", note=words, failed=wrong)
