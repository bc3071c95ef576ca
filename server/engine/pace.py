"""How much of prompts a step reads: the point between the gaps of running streams and the time to
a first token. A value, so that the scheduler needs no clock.
"""

from bisect import bisect_right
from dataclasses import dataclass

from server.engine.costs import Costs

LEAST_TOKENS = 4
"""Prompt tokens of which some can always be read (see `scheduler.cut`)."""
LONGEST_CALL = 0.25
"""Seconds; arrivals and cancels are seen to between two calls."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a step may spend on prompts."""

    costs: Costs
    stretch: float
    """Times as long as without prompts that a step of running streams may take; above 1."""
    longest_call: float = LONGEST_CALL

    def allowance(self, rows: int, past: int) -> float:
        """Seconds for prompts in a step that decodes `rows` sequences of `past` tokens together."""
        if not rows:
            return self.longest_call
        return min((self.stretch - 1) * self.costs.decode_seconds(rows, past), self.longest_call)

    def least_tokens(self, past: int) -> int:
        """Tokens that a step reads of a prompt, whatever they take: with fewer, its calls would be
        spent on reading weights and `past`, and a long prompt would starve."""
        return max(self.costs.least_tokens(past), LEAST_TOKENS)

    def tokens(self, most: int, past: int, seconds: float) -> int:
        """How many of `most` tokens after `past` others can be read in so many seconds."""
        return bisect_right(
            range(1, most + 1), seconds, key=lambda tokens: self.costs.prompt_seconds(tokens, past)
        )
