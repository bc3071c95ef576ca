"""Runs one planned call on the decoder."""

from server.engine.decoder import Decoder, Logits
from server.engine.plan import Call, DecodeCall, StepPlan
from server.engine.sequence import Sequence


def arrange(decoder: Decoder, plan: StepPlan) -> None:
    """Brings the slots into the order that the plan's calls expect."""
    for slot in plan.released:
        decoder.release(slot)
    for move in plan.moves:
        decoder.move(move.source, move.destination, move.length)


def forward(decoder: Decoder, call: Call, sequences: list[Sequence]) -> Logits:
    """Logits [n, V], one row for each sequence that gets a token now.

    `sequences` are the call's, in its order; a prompt that is not yet read whole gets no row.
    """
    if isinstance(call, DecodeCall):
        newest = [sequence.generated[-1] for sequence in sequences]
        return decoder.decode(newest, [sequence.past for sequence in sequences])
    tokens = sequences[0].prompt[call.start : call.stop]
    logits = decoder.prefill(call.slot, call.start, tokens)
    return logits if call.last else logits[:0]
