"""Runs one planned call on the decoder."""

import numpy as np

from server.engine.decoder import Decoder, Rows
from server.engine.plan import Call, DecodeCall, Prefix, SlotPrefix, StepPlan, VerifyCall
from server.engine.sequence import Sequence


def arrange(decoder: Decoder, plan: StepPlan) -> None:
    """Brings the slots into the order that the plan's calls expect."""
    for slot in plan.released:
        decoder.release(slot)
    for move in plan.moves:
        decoder.move(move.source, move.destination, move.length)


def forward(decoder: Decoder, call: Call, sequences: list[Sequence]) -> Rows:
    """One row for each token that may be chosen now.

    `sequences` are the call's, in its order, each with a row; a prompt that is not yet read whole
    gets none, and a draft one for each of its tokens and one more.
    """
    if isinstance(call, DecodeCall):
        newest = [sequence.generated[-1] for sequence in sequences]
        pasts = [sequence.past for sequence in sequences]
        return decoder.decode(newest, pasts, call.first_slot)
    [sequence] = sequences
    if isinstance(call, VerifyCall):
        tokens = np.array([sequence.generated[-1], *call.draft])
        return decoder.prefill(call.slot, sequence.past, tokens, logits_to_keep=len(tokens))
    if call.prefix:
        _begin(decoder, call.slot, call.prefix)
        sequence.reused = call.start
    rows = decoder.prefill(call.slot, call.start, sequence.prompt[call.start : call.stop])
    sequence.read = call.stop
    return rows if call.last else rows[:0]


def _begin(decoder: Decoder, slot: int, prefix: Prefix) -> None:
    """Lets a free slot begin with what was read before."""
    if isinstance(prefix, SlotPrefix):
        decoder.copy(prefix.slot, slot, prefix.length)
    else:
        prefix.saved.load(slot, prefix.length)
