"""How many prompt tokens a call reads, and whether in a step or beside it, weighing the gaps of
running streams against the time to a first token. A value, so that the scheduler needs no clock.
"""

from dataclasses import dataclass
from math import ceil

from server.engine.costs import Costs

MIN_TOKENS = 4
"""The smallest budget for which `scheduler.cut` always finds a piece."""
EARLY_STEP_FRACTION = 0.75
"""Early steps of a long prompt may take up to this fraction of the time of its last, slowest
minimum step. With 1, prompts were read a fifth sooner, but gaps were longer."""
LONGEST_CALL = 0.25
"""Seconds; arrivals and cancellations are handled between two calls only."""
LONGEST_CALL_BESIDE = 0.5
"""Seconds; a cancelled prompt keeps its slot to the end of its call, and the cores that are left by
streams which end meanwhile do nothing."""
MAX_STRETCH_BESIDE = 3.0
"""The largest stretch for which prompts are read beside steps. With half of the cores, decode rows
take 1.6 to 2 times as long, and a call of its own in each step, on all cores, has read the weights
in no less. It only brings the first token sooner where steps may be much longer."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What may be spent on prompts."""

    costs: Costs
    stretch: float
    """Limit on the time of a step that reads prompts, as a multiple of a step that only decodes,
    with the prompts that are still to be read counted as decoding; above 1. A small one has them
    read beside the steps, where that is possible."""
    longest_call: float = LONGEST_CALL
    longest_call_beside: float = LONGEST_CALL_BESIDE

    def allowance(self, rows: int, coming: int, past: int) -> float:
        """Seconds for prompts in a step that decodes `rows` sequences of `past` tokens in total,
        while `coming` others are to be read.

        Those count as if they ran: when many arrive at once, the first to run would otherwise delay
        all the others by steps that are kept short for its sake alone."""
        if not rows:
            return self.longest_call
        step = self.stretch * self.costs.decode_seconds(rows + coming, past)
        return min(step - self.costs.decode_seconds(rows, past), self.longest_call)

    @property
    def reads_beside(self) -> bool:
        """Whether prompts are read beside steps rather than in them, where that is possible."""
        return self.stretch <= MAX_STRETCH_BESIDE

    def tokens_beside(self, past: int, remaining: int) -> int:
        """How many of a prompt's `remaining` tokens to read in one call beside others, after `past`
        tokens: pieces of about the same size."""
        rates = self.costs.prompt_beside
        longest = max(rates.tokens_in(self.longest_call_beside, past, remaining), MIN_TOKENS)
        return max(ceil(remaining / ceil(remaining / longest)), MIN_TOKENS)

    def min_tokens(self, past: int, prompt_tokens: int) -> int:
        """The fewest tokens of a prompt to read in a step, after `past` tokens of it, even if that
        takes longer than the allowance.

        A smaller call would be spent on weights and the past, and a long prompt would starve. This
        minimum takes longest at the prompt's end, and streams have to wait for that in any case:
        earlier steps may be nearly as long, so that the prompt is read sooner."""
        rates = self.costs.prompt
        at_end = max(rates.min_tokens(prompt_tokens), MIN_TOKENS)
        seconds = EARLY_STEP_FRACTION * rates.prompt_seconds(at_end, prompt_tokens)
        return max(
            rates.min_tokens(past),
            rates.tokens_in(min(seconds, self.longest_call), past, prompt_tokens - past),
            MIN_TOKENS,
        )
