"""Whether a written model folder computes what its source says, in numbers.

Knows the folder as the server does, through `OnnxDecoder`, and the independent reference; knows
nothing of how the graph was made.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from model_tools.comparison import Comparison, Measures, Rows, Tokens, measure
from model_tools.decoder_spec import WeightSource
from model_tools.reference import reference_logits
from model_tools.verification_text import PASSAGES
from server.cores import usable_cores
from server.errors import StartError
from server.model.folder import ModelFolder
from server.model.session import OnnxDecoder
from server.model.tokenizer import Tokenizer

SLOTS = 4
OPENING = 8
"""Tokens of a passage that are read as a prompt before the decode steps that are measured."""
LARGEST_KL = {32: 0.001, 8: 0.1, 4: 2.0}
"""Nats, by the bits of a weight: more is a mistake and not rounding. SmolLM2-135M, a small and so a
sensitive model, has 0.002 to 0.015 with 8 bits and 0.1 to 0.4 with 4, by the export's options; a
wrong rope base costs it 0.18 and rotating the wrong pairs 3.3."""


@dataclass(frozen=True, slots=True)
class Verification:
    """A folder against the reference, over one text in the two ways in which a server reads."""

    prompts: Comparison
    """Read as prompts, each cut in two."""
    decode: Comparison
    """Read one token at a time from cached keys and values, several rows together."""

    def __str__(self) -> str:
        return f"prompts: {self.prompts}\ndecode:  {self.decode}"


def verify(folder: Path, source: WeightSource, *, bits: int) -> Verification:
    """Compares a folder with its source and writes the outcome into it as `verification.json`.

    `bits` is the size of a weight, 32, 8 or 4. Raises `StartError` if the folder cannot be loaded
    or is too far from its source to be right.
    """
    model = ModelFolder.read(folder)
    tokenizer = Tokenizer.read(model.tokenizer_file)
    passages = [
        np.array(tokenizer.encode(text)[: model.context_length], np.int64) for text in PASSAGES
    ]
    context = max(map(len, passages))
    decoder = OnnxDecoder(model, slots=SLOTS, context=context, threads=usable_cores())
    outcome = compare(decoder, source, passages)
    for way, comparison in (("prompts", outcome.prompts), ("decode", outcome.decode)):
        if not comparison.mean_kl <= LARGEST_KL[bits]:  # not `>`: a broken graph may say NaN
            raise StartError(
                f"the graph does not compute what its source says: mean KL of {way} is "
                f"{comparison.mean_kl:.3g}, with {bits} bits {LARGEST_KL[bits]} at most"
            )
    document = json.dumps(asdict(outcome), indent=2)
    (folder / "verification.json").write_text(document + "\n", encoding="utf-8")
    return outcome


def compare(decoder: OnnxDecoder, source: WeightSource, passages: Sequence[Tokens]) -> Verification:
    """Over token sequences, each longer than `OPENING` + 1 and no longer than the context."""
    ordered = sorted(passages, key=len, reverse=True)
    references = reference_logits(source, [passage[:-1] for passage in ordered])
    prompts: list[Measures] = []
    decode: list[Measures] = []
    for start in range(0, len(ordered), decoder.slots):
        batch = ordered[start : start + decoder.slots]
        expected = list(islice(references, len(batch)))
        prompts.extend(_read_as_prompts(decoder, batch, expected))
        decode.extend(_read_by_decoding(decoder, batch, expected))
    return Verification(Comparison.of(prompts), Comparison.of(decode))


def _read_as_prompts(
    decoder: OnnxDecoder, passages: Sequence[Tokens], expected: Sequence[Rows]
) -> Iterator[Measures]:
    for passage, reference in zip(passages, expected, strict=True):
        half = len(passage) // 2
        first = decoder.prefill(0, 0, passage[:half], logits_to_keep=0)
        yield measure(reference[:half], first, passage[1 : half + 1])
        second = decoder.prefill(0, half, passage[half:-1], logits_to_keep=0)
        yield measure(reference[half:], second, passage[half + 1 :])


def _read_by_decoding(
    decoder: OnnxDecoder, passages: Sequence[Tokens], expected: Sequence[Rows]
) -> Iterator[Measures]:
    """The longest passage comes first, so that those still running are neighbours."""
    for slot, passage in enumerate(passages):
        decoder.prefill(slot, 0, passage[:OPENING])
    for past in range(OPENING, len(passages[0]) - 1):
        running = [passage for passage in passages if past < len(passage) - 1]
        tokens = [int(passage[past]) for passage in running]
        logits = decoder.decode(tokens, [past] * len(running))
        reference = np.stack([rows[past] for rows, _ in zip(expected, running, strict=False)])
        yield measure(reference, logits, np.array([passage[past + 1] for passage in running]))
