"""Parses an exchange, once the clock has stopped: HTTP, lines, tokens.

Knows h11 and dialects; does not know connections.
"""

import itertools
from dataclasses import dataclass, field
from enum import Enum

import h11

from model_tools.bench.serve.client import End, Exchange
from model_tools.bench.serve.dialect import Dialect, Said
from model_tools.bench.serve.http_events import http_events

REFUSALS = (429, 503, 504)
"""Too many requests, or no slot in time."""
LEAST_SHOWN = 0.5
"""Least share of an answer's tokens that have text, where the end of text is ignored. An answer
with less stopped at an end of text."""
LONGEST_REASON = 200
"""Characters that are kept of what a server says."""
TOO_SHORT = "it ended before its limit: does the server ignore the end of text?"


class Outcome(Enum):
    COMPLETE = "complete"
    REFUSED = "refused"
    """The server said that it is overloaded, before any token."""
    FAILED = "failed"
    """Any other lack of an answer: an error, no connection or a broken one, a timeout."""
    INCOMPLETE = "incomplete"
    """The answer began, but broke off, or has less text than `LEAST_SHOWN`."""
    LEFT = "left"
    """The client left early, as planned."""


ANSWERED = (Outcome.COMPLETE, Outcome.LEFT)
"""Outcomes whose first tokens count: those of a client that leaves came as any other's."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One request's answer. Times are in seconds from when the request was due."""

    outcome: Outcome
    reason: str
    due: float
    """When the request was due, in seconds of `time.perf_counter`."""
    times: tuple[float, ...]
    """Arrivals of tokens. Tokens that arrive together count once, so that they make no gap."""
    tokens: int

    @property
    def time_to_first_token(self) -> float | None:
        return self.times[0] if self.times else None

    @property
    def gaps(self) -> list[float]:
        """Seconds between arrivals."""
        return [after - before for before, after in itertools.pairwise(self.times)]

    @property
    def time_per_output_token(self) -> float | None:
        """Without the first token, whose time is that of the prompt."""
        if self.tokens < 2 or len(self.times) < 2:
            return None
        return (self.times[-1] - self.times[0]) / (self.tokens - 1)

    @property
    def end_to_end(self) -> float | None:
        """Time to the last token."""
        return self.times[-1] if self.times else None


@dataclass(slots=True)
class _Answer:
    """What has been read so far."""

    status: int | None = None
    times: list[float] = field(default_factory=list)
    seen: int = 0
    total: int | None = None
    done: bool = False
    code: int | None = None
    reason: str = ""

    @property
    def complete(self) -> bool:
        """Not after an error, though some servers then end the stream as any other."""
        return self.done and self.code is None

    def take(self, said: Said, time: float) -> None:
        self.seen += said.tokens
        self.total = said.total if said.total is not None else self.total
        self.done = self.done or said.done
        if said.code is not None:
            self.code, self.reason = said.code, said.reason
        if said.tokens and (not self.times or self.times[-1] != time):
            self.times.append(time)


def read_reply(exchange: Exchange, dialect: Dialect, fixed_length: int | None) -> Reply:
    """`fixed_length` is the number of tokens of a complete answer, if the end of text is ignored.
    It is used if the server does not count tokens, since a token without text may have no line."""
    answer = _Answer()
    try:
        _read(exchange, dialect, answer)
    except h11.RemoteProtocolError as error:
        answer.reason = answer.reason or str(error)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        answer.code, answer.reason = 500, f"not the dialect: {error!r}"
    counted = answer.total is not None
    short = fixed_length and not counted and answer.seen < fixed_length * LEAST_SHOWN
    if answer.complete and short:
        answer.done, answer.reason = False, TOO_SHORT
    outcome = _outcome(exchange.end, answer)
    tokens = answer.seen
    if outcome is Outcome.COMPLETE:
        tokens = answer.total if answer.total is not None else fixed_length or answer.seen
    times = tuple(time - exchange.due for time in answer.times)
    return Reply(outcome, _reason(exchange, answer), exchange.due, times, tokens)


def _outcome(end: End, answer: _Answer) -> Outcome:
    if answer.complete:
        return Outcome.COMPLETE
    if answer.code is not None:
        early = answer.code in REFUSALS and not answer.times
        return Outcome.REFUSED if early else Outcome.FAILED
    if end is End.LEFT:
        return Outcome.LEFT
    if answer.status is None or end is End.TIMED_OUT:
        return Outcome.FAILED
    return Outcome.INCOMPLETE


def _reason(exchange: Exchange, answer: _Answer) -> str:
    if answer.complete:
        return ""
    # In one line, and not a whole page of HTML.
    said = " ".join(answer.reason.split())[:LONGEST_REASON]
    said = said or exchange.refusal or exchange.end.value
    return f"{answer.code}: {said}" if answer.code is not None else said


def _read(exchange: Exchange, dialect: Dialect, answer: _Answer) -> None:
    """Fills `answer`. Raises if the bytes are malformed; `answer` then has what came before."""
    rest, is_error = b"", False
    for time, event in http_events(exchange):
        match event:
            case h11.Response(status_code=status):
                is_error = status >= 400
                answer.status = status
                answer.code = status if is_error else None
            case h11.Data(data=payload) if is_error:
                answer.reason += payload.decode(errors="replace")
            case h11.Data(data=payload):
                *lines, rest = (rest + payload).split(b"\n")
                for line in lines:
                    answer.take(dialect.read(line.strip()), time)
