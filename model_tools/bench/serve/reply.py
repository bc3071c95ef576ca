"""What an exchange amounts to, found out once the clock has stopped: HTTP, lines, tokens.

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
"""Of an answer's tokens, where the end of text is ignored, the share that have text at least. One
of which less is seen was ended by its text."""
TOO_SHORT = "it ended before its limit: does the server ignore the end of text?"


class Outcome(Enum):
    COMPLETE = "complete"
    REFUSED = "refused"
    """The server said that it has too much to do."""
    FAILED = "failed"
    """Anything else that is no answer: an error, no connection, a broken one, the time was up."""
    INCOMPLETE = "incomplete"
    """The answer began, and ended without its end."""
    LEFT = "left"
    """The client left, as it was to."""


ANSWERED = (Outcome.COMPLETE, Outcome.LEFT)
"""A client that leaves has seen its first tokens as any other."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One request's answer. Times are in seconds from when the request was due."""

    outcome: Outcome
    reason: str
    due: float
    """By the clock, in seconds."""
    times: tuple[float, ...]
    """When tokens arrived, each arrival once: several tokens that come together are no gaps."""
    tokens: int

    @property
    def time_to_first_token(self) -> float | None:
        return self.times[0] if self.times else None

    @property
    def gaps(self) -> list[float]:
        """Between arrivals."""
        return [after - before for before, after in itertools.pairwise(self.times)]

    @property
    def time_per_output_token(self) -> float | None:
        """Without the first token, whose time is the prompt's."""
        if self.tokens < 2 or len(self.times) < 2:
            return None
        return (self.times[-1] - self.times[0]) / (self.tokens - 1)

    @property
    def end_to_end(self) -> float | None:
        """To the last token."""
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
        """An error's answer is not, though servers may end its stream as any other."""
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
    """`fixed_length` is how many tokens a complete answer has, where the end of text is ignored:
    a server that does not count them may send no line for a token without text."""
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
    said = answer.reason.strip() or exchange.refusal or exchange.end.value
    return f"{answer.code}: {said}" if answer.code is not None else said


def _read(exchange: Exchange, dialect: Dialect, answer: _Answer) -> None:
    """Fills `answer`; raises where the bytes are wrong, and keeps what came before."""
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
