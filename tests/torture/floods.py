"""Clients that send too much, or nonsense."""

import random

from tests.http.framing_cases import CASES, head
from tests.torture.client import (
    HEALTH,
    HEALTHY,
    HOST,
    KEY,
    Target,
    ask,
    half_close,
    head_of_post,
    post,
    read_all,
    read_until,
    receive,
    send,
    status_of,
)
from tests.torture.crowds import Client
from tests.torture.tally import Tally

_CLIENTS_FAULTS = {501, 505}
"""Statuses of 500 and above for which the client is to blame."""
PIPELINED = 20
"""Requests in one packet."""
KEYS = 10
"""The number of wrong keys that one client tries."""
_MANY = 8_000
_TOO_MANY = 20_000
_BIG = 2_000_000
_LONG_PROMPT = 600_000
"""Bytes, and as many tokens; hardly more bytes would be too long whatever their tokens are."""
_GARBAGE = [
    b"[" * _BIG,
    b'{"a":' * 100_000,
    b'{"raw_prompt": "' + b"\\ud800" * 300_000,
    b'{"max_tokens": ' + b"9" * _BIG,
    b'{"max_tokens": NaN, "raw_prompt": ""}',
    b'{"max_tokens": 1e999, "raw_prompt": ""}',
    b'{"raw_prompt": "' + b"a" * _BIG + b'", "max_tokens": 1}',
    b'{"raw_prompt": "\xed\xa0\x80"}',
    b"\xef\xbb\xbf{}",
    b"\0" * 100_000,
    b"",
]


async def pipeline(target: Target, tally: Tally) -> None:
    """Sends many requests at once, and half of another one."""
    async with await target.connect() as stream:
        await send(stream, HEALTH * PIPELINED + HEALTH[:10])
        answers = b""
        while answers.count(HEALTHY) < PIPELINED and (more := await receive(stream)):
            answers += more
        tally.check(answers.count(HEALTHY) == PIPELINED, "a pipelined request has no answer")


def checks(count: int) -> Client:
    """No attack: health checks on one connection, each after the answer to the one before."""

    async def client(target: Target, tally: Tally) -> None:
        async with await target.connect() as stream:
            for _ in range(count):
                await send(stream, HEALTH)
                tally.check((await read_until(stream, HEALTHY)).endswith(HEALTHY), "no health")

    return client


async def wrong_keys(target: Target, tally: Tally) -> None:
    """Tries one wrong key after another, the last one with a request for a generation."""
    async with await target.connect() as stream:
        for _ in range(KEYS - 1):
            await send(stream, _guess())
            answer = await read_until(stream, b"\n")
            tally.check(status_of(answer) == 401, f"a wrong key gave {status_of(answer)}")
        await send(stream, head_of_post(b"Content-Length: 1000", key=_wrong_key()))
        status = status_of(await read_all(stream))
        tally.check(status == 401, f"a wrong key before a body gave {status}")


def _guess() -> bytes:
    credentials = random.choice(
        (
            b"Bearer " + _wrong_key(),
            b"Basic " + KEY,
            KEY,
            b"Bearer",
            b"Bearer " + _wrong_key() * 100,
        )
    )
    return head(b"Authorization: " + credentials, first=b"GET /api/v1/slots HTTP/1.1", host=HOST)


def _wrong_key() -> bytes:
    """As long as the right key, and equal to it up to a random position."""
    end = random.randrange(len(KEY))
    return KEY[:end] + b"~" * (len(KEY) - end)


async def malformed(target: Target, tally: Tally) -> None:
    """Breaks a rule of HTTP, or several."""
    data = bytearray(random.choice(CASES).sent)
    for _ in range(random.randint(0, 2)):
        at = random.randrange(len(data) + 1)
        data[at : at + random.randint(0, 2)] = random.randbytes(random.randint(0, 2))
    async with await target.connect() as stream:
        await send(stream, bytes(data))
        half_close(stream)
        status = status_of(await read_all(stream))
        tally.check(status < 500 or status in _CLIENTS_FAULTS, f"malformed bytes gave {status}")


async def tiny_chunks(target: Target, tally: Tally) -> None:
    """Sends a body in chunks of one byte."""
    chunks, expected = random.choice([(_MANY, 400), (_TOO_MANY, 413)])
    body = b"1\r\n{\r\n" * chunks + b"0\r\n\r\n"
    async with await target.connect() as stream:
        await send(stream, head_of_post(b"Transfer-Encoding: chunked") + body)
        status = status_of(await read_until(stream, b"\n"))
        tally.check(status == expected, f"{chunks} chunks gave {status}")


async def too_long(target: Target, tally: Tally) -> None:
    """Sends a prompt that is known to be too long only once it is tokenized."""
    async with await target.connect() as stream:
        await send(stream, ask("1" * _LONG_PROMPT, 1))
        status = status_of(await read_until(stream, b"\n"))
        tally.check(status == 400, f"a prompt too long gave {status}")


async def garbage(target: Target, tally: Tally) -> None:
    """Sends a body that is no valid request, often nearly as long as allowed."""
    async with await target.connect() as stream:
        await send(stream, post(random.choice(_GARBAGE)))
        status = status_of(await read_until(stream, b"\n"))
        tally.check(status in (400, 413), f"a body of garbage gave {status}")
