"""How much of prompts a step reads: the point between the gaps of running streams and the time to
a first token. A value, so that the scheduler needs no clock.
"""

from dataclasses import dataclass

from server.engine.costs import Costs, Rates

LEAST_TOKENS = 4
"""Prompt tokens within which `scheduler.cut` always finds a piece."""
AS_LONG_AS_THE_LAST = 0.75
"""The share that earlier steps may take of what the least piece at a prompt's end takes. With 1,
prompts were read a fifth sooner, but gaps were longer."""
LONGEST_CALL = 0.25
"""Seconds; arrivals and cancels are seen to between two calls."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a step may spend on prompts."""

    costs: Costs
    stretch: float
    """Times as long as without prompts that a step of running streams may take, once those that
    are still to be read run too; above 1."""
    longest_call: float = LONGEST_CALL

    def allowance(self, rows: int, coming: int, past: int) -> float:
        """Seconds for prompts in a step that decodes `rows` sequences of `past` tokens together,
        while `coming` others are to be read.

        Those count as if they ran: when many come at once, the first to run would otherwise hold up
        all others by steps that are short for its own sake, and soon over."""
        if not rows:
            return self.longest_call
        step = self.stretch * self.costs.decode_seconds(rows + coming, past)
        return min(step - self.costs.decode_seconds(rows, past), self.longest_call)

    def least_tokens(self, rates: Rates, past: int, prompt_tokens: int) -> int:
        """The fewest tokens of a prompt to read in a step, after `past` tokens of it, even if that
        takes longer than is allowed.

        Not so few that the call would be spent on weights and the past, lest a long prompt starve.
        At a prompt's end that makes the longest steps, for which streams have to wait in any case:
        earlier ones may be nearly as long, so that the prompt is read sooner."""
        at_end = max(rates.least_tokens(prompt_tokens), LEAST_TOKENS)
        seconds = AS_LONG_AS_THE_LAST * rates.prompt_seconds(at_end, prompt_tokens)
        return max(
            rates.least_tokens(past),
            rates.tokens_in(min(seconds, self.longest_call), past, prompt_tokens - past),
            LEAST_TOKENS,
        )
