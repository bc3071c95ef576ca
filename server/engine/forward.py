"""Runs one planned call on the decoder."""

import numpy as np

from server.engine.decoder import Decoder, Rows
from server.engine.plan import (
    Call,
    DecodeCall,
    MixedCall,
    PrefillCall,
    Prefix,
    SlotPrefix,
    VerifyCall,
)
from server.engine.sequence import Sequence
from server.model.tensor_types import Tokens


def forward(decoder: Decoder, call: Call, sequences: list[Sequence], *, last: bool) -> Rows:
    """One row for each token that may be chosen now.

    `sequences` are the call's, in its order, each with a row; a prompt that is not yet read whole
    gets none, and a draft one for each of its tokens and one more. `last` is whether it is the last
    call of its step.
    """
    match call:
        case DecodeCall():
            again = last and all(sequence.goes_on for sequence in sequences)
            return decoder.decode(*_newest(sequences), call.first_slot, again=again)
        case VerifyCall():
            [sequence] = sequences
            tokens = np.array([sequence.generated[-1], *call.draft])
            return decoder.prefill(call.slot, sequence.past, tokens, logits_to_keep=len(tokens))
        case PrefillCall():
            [sequence] = sequences
            piece = _piece(decoder, call, sequence)
            rows = decoder.prefill(call.slot, call.start, piece)
            sequence.read = call.stop
            return rows if call.last else rows[:0]
        case MixedCall(prompt=prompt):
            *running, sequence = sequences
            piece = _piece(decoder, prompt, sequence)
            newest, pasts = _newest(running)
            if decoder.mixed is None:
                raise TypeError("the decoder has no mixed calls")
            rows = decoder.mixed(newest, pasts, prompt.slot, prompt.start, piece, last=prompt.last)
            sequence.read = prompt.stop
            return rows


def _newest(sequences: list[Sequence]) -> tuple[list[int], list[int]]:
    """The tokens that are to be decoded, and how many come before each."""
    tokens = [sequence.generated[-1] for sequence in sequences]
    return tokens, [sequence.past for sequence in sequences]


def _piece(decoder: Decoder, call: PrefillCall, sequence: Sequence) -> Tokens:
    """The tokens that the call reads, once its slot holds those before them."""
    if call.prefix and sequence.read < call.start:
        _begin(decoder, call.slot, call.prefix)
        sequence.read = sequence.reused = call.start
    return sequence.prompt[call.start : call.stop]


def _begin(decoder: Decoder, slot: int, prefix: Prefix) -> None:
    """Lets a free slot begin with what was read before."""
    if isinstance(prefix, SlotPrefix):
        decoder.copy(prefix.slot, slot, prefix.length)
    else:
        prefix.saved.load(slot, prefix.length)
