"""Measures how far a written model folder is from what its source computes.

Knows the folder as the server does, through a decoder, and the independent reference; knows
nothing of how the graph was made.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from model_tools.decoder_spec import WeightSource
from model_tools.recipe import FloatType, KvLayout, Recipe
from model_tools.verification.comparison import Comparison, Measures, Rows, Tokens, measure
from model_tools.verification.reference import reference_logits
from model_tools.verification.text import PASSAGES
from model_tools.verification.verify_weights import WeightsVerification, verify_weights
from server.config import Device, DeviceKind
from server.cores import usable_cores
from server.engine.decoder import Decoder
from server.engine.decoder import Rows as DecoderRows
from server.errors import DeviceLost, StartError
from server.model.choice import Obstacle, open_on_best
from server.model.folder import ModelFolder
from server.model.gpu.cuda import cuda_obstacle
from server.model.opening import open_decoder
from server.model.tokenizer import Tokenizer

SLOTS = 4
OPENING = 8
"""Tokens of a passage that are read as a prompt before the decode steps that are measured."""
SHORTEST = OPENING + 2
"""The least tokens of a passage: its opening, one to decode, and the one that follows."""
LARGEST_KL = {32: 0.001, 16: 0.02, 8: 0.1, 4: 2.0}
"""Bounds of the mean, in nats, by the bits of a number: more is a mistake rather than rounding.
SmolLM2-135M, a small and so a sensitive model, has 0.002 to 0.015 with 8 bits and 0.1 to 0.4 with
4, by the export's options; a wrong rope base costs it 0.18 and rotating the wrong pairs 3.3."""


@dataclass(frozen=True, slots=True)
class Verification:
    """A folder compared with the reference, in the two ways in which a server reads tokens."""

    how: str
    """What was run, and on what."""
    prompts: Comparison
    """Read as prompts, each cut in two."""
    decode: Comparison
    """Decoded one token at a time from the KV cache, several sequences in a call."""

    def __str__(self) -> str:
        return f"prompts: {self.prompts}\ndecode:  {self.decode}\nverified: {self.how}"


def verify(
    folder: Path, source: WeightSource, recipe: Recipe, obstacle: Obstacle = cuda_obstacle
) -> Verification | WeightsVerification:
    """Compares a folder with its source and writes the outcome into it as `verification.json`.

    The graph runs on the device that it is for, or else on the CPU; where that has no kernels for
    it, the reference runs with the weights that were written. Raises `StartError` if the folder
    cannot be loaded, has too short a context, or is too far from its source to be right, and if the
    device has no memory or is lost.
    """
    model = ModelFolder.read(folder)
    tokenizer = Tokenizer.read(model.tokenizer_file)
    passages = [
        np.array(tokenizer.encode(text)[: model.context_length], np.int64) for text in PASSAGES
    ]
    _check_lengths(passages)
    cpu_is_able = recipe.activations is not FloatType.BF16 and recipe.kv_layout is KvLayout.SLOTS
    outcome: Verification | WeightsVerification
    if cpu_is_able or obstacle(Device(DeviceKind.CUDA)) is None:
        outcome = _run(model, source, passages, obstacle)
        ways = {"prompts": outcome.prompts, "decode": outcome.decode}
    else:
        outcome = verify_weights(model.model_file, source, passages, recipe)
        ways = {"weights": outcome.weights}
    for way, comparison in ways.items():
        _check(way, comparison, recipe.bits)
    document = json.dumps(asdict(outcome), indent=2)
    (folder / "verification.json").write_text(document + "\n", encoding="utf-8")
    return outcome


def _check_lengths(passages: Sequence[Tokens]) -> None:
    shortest = min(map(len, passages))
    if shortest < SHORTEST:
        raise StartError(
            f"verifying takes texts of {SHORTEST} tokens, and the model's context or vocabulary "
            f"leaves {shortest}; --no-verify does without"
        )


def _check(way: str, comparison: Comparison, bits: int) -> None:
    if not comparison.mean_kl <= LARGEST_KL[bits]:  # not `>`: a broken graph may say NaN
        raise StartError(
            f"the graph does not compute what its source says: mean KL of {way} is "
            f"{comparison.mean_kl:.3g}, with {bits} bits {LARGEST_KL[bits]} at most"
        )


def _run(
    model: ModelFolder, source: WeightSource, passages: Sequence[Tokens], obstacle: Obstacle
) -> Verification:
    context, threads = max(map(len, passages)), usable_cores()

    def open_on(device: Device) -> Decoder:
        return open_decoder(
            model, device, slots=SLOTS, context=context, threads=threads, cuda_graphs=False
        )

    try:
        decoder, choice = open_on_best(model, None, obstacle, open_on)
        outcome = compare(decoder, source, passages)
    except (MemoryError, DeviceLost) as error:  # such as a GPU that another process has filled
        raise StartError(f"cannot verify it: {error}; --no-verify does without") from None
    how = f"the graph ran on {choice.device}"
    return Verification(how, *outcome)


def compare(
    decoder: Decoder, source: WeightSource, passages: Sequence[Tokens]
) -> tuple[Comparison, Comparison]:
    """Compares prefill and decode with the reference, over sequences of at least `SHORTEST` tokens
    that fit the context."""
    ordered = sorted(passages, key=len, reverse=True)
    references = reference_logits(source, [passage[:-1] for passage in ordered])
    prompts: list[Measures] = []
    decode: list[Measures] = []
    for start in range(0, len(ordered), decoder.slots):
        batch = ordered[start : start + decoder.slots]
        expected = list(islice(references, len(batch)))
        prompts.extend(_read_as_prompts(decoder, batch, expected))
        decode.extend(_read_by_decoding(decoder, batch, expected))
    return Comparison.of(prompts), Comparison.of(decode)


def _read_as_prompts(
    decoder: Decoder, passages: Sequence[Tokens], expected: Sequence[Rows]
) -> Iterator[Measures]:
    for passage, reference in zip(passages, expected, strict=True):
        half = len(passage) // 2
        first = decoder.prefill(0, 0, passage[:half], logits_to_keep=0)
        yield measure(reference[:half], whole(first), passage[1 : half + 1])
        second = decoder.prefill(0, half, passage[half:-1], logits_to_keep=0)
        yield measure(reference[half:], whole(second), passage[half + 1 :])


def _read_by_decoding(
    decoder: Decoder, passages: Sequence[Tokens], expected: Sequence[Rows]
) -> Iterator[Measures]:
    """Wants the longest passage first, so that those still running are in neighbouring slots."""
    for slot, passage in enumerate(passages):
        decoder.prefill(slot, 0, passage[:OPENING])
    for past in range(OPENING, len(passages[0]) - 1):
        running = [passage for passage in passages if past < len(passage) - 1]
        tokens = [int(passage[past]) for passage in running]
        logits = whole(decoder.decode(tokens, [past] * len(running)))
        reference = np.stack([rows[past] for rows, _ in zip(expected, running, strict=False)])
        yield measure(reference, logits, np.array([passage[past + 1] for passage in running]))


def whole(rows: DecoderRows) -> Rows:
    """Returns all logits [n, vocabulary], fetched from the device if they are kept there."""
    return rows if isinstance(rows, np.ndarray) else np.stack([row.whole() for row in rows])
