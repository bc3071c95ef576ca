"""Runs one planned call on the decoder."""

import numpy as np

from server.engine.decoder import Decoder, Rows
from server.engine.plan import (
    Call,
    DecodeCall,
    PrefillCall,
    Prefix,
    SlotPrefix,
    VerifyCall,
)
from server.engine.sequence import Sequence
from server.model.tensor_types import Tokens


def forward(decoder: Decoder, call: Call, sequences: list[Sequence], *, last: bool) -> Rows:
    """Runs the call; returns a row for each token to be chosen.

    `sequences` are the call's, in its order. Each gets one row, but none for a prompt that is not
    yet read whole, and n + 1 for a draft of n tokens. `last` is whether this is the last call of
    its step.
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
            piece = piece_of(decoder, call, sequence)
            rows = decoder.prefill(call.slot, call.start, piece)
            sequence.read = call.stop
            return rows if call.last else rows[:0]


def _newest(sequences: list[Sequence]) -> tuple[list[int], list[int]]:
    """The tokens to decode, and how many tokens come before each."""
    tokens = [sequence.generated[-1] for sequence in sequences]
    return tokens, [sequence.past for sequence in sequences]


def piece_of(decoder: Decoder, call: PrefillCall, sequence: Sequence) -> Tokens:
    """The tokens that the call reads. First puts its prefix, if any, into the slot."""
    if call.prefix:
        _load(decoder, call.slot, call.prefix)
        sequence.read = sequence.reused = call.start
    return sequence.prompt[call.start : call.stop]


def _load(decoder: Decoder, slot: int, prefix: Prefix) -> None:
    """Puts a prefix into a free slot."""
    if isinstance(prefix, SlotPrefix):
        decoder.copy(prefix.slot, slot, prefix.length)
    else:
        prefix.saved.load(slot, prefix.length)
