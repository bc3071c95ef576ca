"""`skiff-bench http`: the cost of strict parsing, for each request and token, without a network.

Compared with h11 and json alone, on the same bytes. Knows its flags and its table.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import h11
from tqdm import tqdm

from model_tools.bench.flags import add_repetitions, count
from model_tools.bench.machine import machine
from model_tools.bench.report.report import Report, Table
from model_tools.bench.report.series import Better, Of, Series
from model_tools.bench.report.spread import Middle, Spread
from model_tools.bench.turns import in_turn
from server.api.continue_from_raw_prompt import FIELDS, PATH
from server.api.json_reader import read_object
from server.config import Limits
from server.errors import ClientError
from server.http.api_keys import ApiKeys
from server.http.cors import Cors
from server.http.exchange import Exchange
from server.http.gate import Gate
from server.http.hosts import LocalHosts
from server.http.messages import Headers
from server.http.protocol import Protocol
from server.http.routing import Route, Router

KEY = "correct-horse-battery-staple"
HEADERS: Headers = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-cache"))
LINE = (
    b'{"Response":{"request_id":"Y1Z_1_0CcJJrg6-9Cfkhs",'
    b'"response":{"GeneratedToken":{"Token":" Paris"}}}}\n'
)
CHUNK_BYTES = 1024
"""Size of the chunks of a chunked body."""
MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class Case:
    """One piece of work, done in two ways."""

    name: str
    strict: Callable[[], object]
    alone: Callable[[], object]
    """By h11 and json only."""
    rarer: int = 1
    """Divides the number of runs, for slow work."""


def add_to(parser: argparse.ArgumentParser) -> None:
    add_repetitions(parser)
    parser.add_argument(
        "-n",
        "--times",
        metavar="N",
        type=count,
        default=2000,
        help="runs of each case in a repetition (default: 2000)",
    )


def run(options: argparse.Namespace) -> Report:
    """Measures each case. The two ways take turns, and which one begins alternates."""
    rows, series = [], []
    for case in tqdm(cases(), unit="case", disable=None):
        times = max(1, options.times // case.rarer)
        rounds = [_round(case, times, number) for number in range(options.repetitions + 1)][1:]
        strict, alone = zip(*rounds, strict=True)
        added = Middle.of([one - other for one, other in rounds])
        rows.append((case.name, Spread.of(strict), Spread.of(alone), added))
        series += [_series(case, "skiff", strict), _series(case, "h11 and json", alone)]
    columns = ("what", "strict", "h11 and json alone", "difference: median (lowest to highest)")
    table = Table("microseconds of one core", columns, tuple(rows))
    return Report("http", machine(), (table,), tuple(series))


def cases() -> list[Case]:
    """A request is timed from its bytes to the head of its answer, a token from its line to the
    bytes of its chunk."""
    gate = a_gate()
    requests = {
        "a request of 40 words": sized(40),
        "a request of 2,000 words": sized(2000),
        "the same in chunks": in_chunks(2000),
    }
    strict_stream, stream = strict_answer(gate, sized(1))[0], answer(sized(1))[0]
    return [
        *(
            Case(name, partial(strict_answer, gate, data), partial(answer, data))
            for name, data in requests.items()
        ),
        Case(
            "2 MiB that are refused at their end",
            partial(refusal, partial(strict_answer, gate, unended())),
            partial(refusal, partial(answer, unended())),
            rarer=100,
        ),
        Case(
            "a token",
            lambda: strict_stream.chunks((LINE,)),
            lambda: stream.send(h11.Data(data=LINE)),
        ),
    ]


def a_gate() -> Gate:
    async def nothing(exchange: Exchange) -> None: ...

    router = Router([Route("POST", PATH, nothing, consumes=b"application/json")])
    return Gate(router, LocalHosts([]), Cors(["https://example.com"]), ApiKeys([KEY]), frozenset())


def strict_answer(gate: Gate, data: bytes) -> tuple[Protocol, bytes]:
    """Reads a request and starts an answer as the server does, without sockets and engine."""
    protocol = Protocol(Limits(), lambda: False)
    protocol.receive(data)
    head = protocol.next_head()
    if head is None:
        raise ValueError("a part of a head")
    gate.find(head)
    read_object(protocol.next_content(), FIELDS)
    return protocol, protocol.start(200, HEADERS)


def answer(data: bytes) -> tuple[h11.Connection, bytes]:
    """Does the same by h11 and json, which check no limits, API keys, hosts or field names."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    connection.next_event()
    content = b""
    while isinstance(event := connection.next_event(), h11.Data):
        content += event.data
    json.loads(content)
    response = h11.Response(status_code=200, headers=list(HEADERS), reason="OK")
    return connection, connection.send(response) or b""


def refusal(work: Callable[[], object]) -> str:
    """Runs work that must refuse a request, and returns the reason."""
    try:
        work()
    except (ClientError, json.JSONDecodeError) as error:
        return str(error)
    raise ValueError("a request was not refused")


def sized(words: int) -> bytes:
    return _whole(_body(words))


def unended() -> bytes:
    """The slowest invalid request known: the largest body, a string of escapes without an end."""
    body = b'{"raw_prompt":"'
    return _whole(body + b"\\n" * ((Limits().body_bytes - len(body)) // 2))


def _whole(body: bytes) -> bytes:
    return _head(f"Content-Length: {len(body)}") + body


def in_chunks(words: int) -> bytes:
    body = _body(words)
    pieces = [body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    return _head("Transfer-Encoding: chunked") + chunks


def _head(framing: str) -> bytes:
    """A head as curl sends it."""
    lines = (
        f"POST {PATH} HTTP/1.1",
        "Host: 127.0.0.1:8061",
        "User-Agent: curl/8.5.0",
        "Accept: */*",
        "Content-Type: application/json",
        f"Authorization: Bearer {KEY}",
        framing,
    )
    return "\r\n".join([*lines, "", ""]).encode()


def _body(words: int) -> bytes:
    return json.dumps({"max_tokens": 40, "raw_prompt": "once " * words}).encode()


def _round(case: Case, times: int, number: int) -> tuple[float, float]:
    """Microseconds of one run in the strict way, and in the other."""
    took = {work: _each(work, times) for work in in_turn(number, (case.strict, case.alone))}
    return took[case.strict], took[case.alone]


def _each(work: Callable[[], object], times: int) -> float:
    """Microseconds of one run, the mean of many."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return MICROSECONDS * (time.perf_counter() - start) / times


def _series(case: Case, subject: str, samples: tuple[float, ...]) -> Series:
    return Series(case.name, subject, "microseconds", Better.LOWER, Of.ROUND, samples)
