"""Many clients leave at any byte and at any line: nothing of them is left, and a client that stays
is not affected. From bytes to the fake model, in memory."""

import json
import string
from dataclasses import dataclass

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import (
    MockClock,
    lockstep_stream_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from server.api.engine_metrics import EngineMetrics
from server.api.routes import inference_routes
from server.config import EngineLimits, Limits, SamplingParameters
from server.engine.engine import Engine
from server.engine.events import Text
from server.http.connection import serve_connection
from server.http.open_connections import OpenConnections
from server.http.routing import Router
from tests.engine.clients import engine_of, expected, in_trio, on_clock
from tests.engine.fake_decoder import FakeDecoder
from tests.http.framing_cases import head

LINE_END = b"\n\r\n"
END = b"0\r\n\r\n"
ENDLESS = 1_000_000
"""Tokens; so many would take minutes: only leaving ends the stream."""
NO_EOS: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Visit:
    """A client that leaves once it has sent, and received, a given amount."""

    prompt: str
    max_tokens: int
    sent: float = 1.0
    """Share of the request's bytes; only a client that sends all of them waits for lines."""
    lines: int = 10_000
    half_closes: bool = False

    @property
    def request(self) -> bytes:
        body = json.dumps({"raw_prompt": self.prompt, "max_tokens": self.max_tokens}).encode()
        fields = (b"Content-Type: application/json", b"Content-Length: %d" % len(body))
        return head(*fields, first=b"POST /api/v1/continue_from_raw_prompt HTTP/1.1") + body

    async def pay(self, router: Router) -> bytes:
        """Make the visit; return what was received."""
        client, server = memory_stream_pair()
        heard = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, server, router, Limits(), OpenConnections(100))
            request = self.request
            await client.send_all(request[: int(self.sent * len(request))])
            if self.sent == 1:
                while heard.count(LINE_END) < self.lines and not heard.endswith(END):
                    heard += await client.receive_some()
            if self.half_closes:
                await client.send_eof()
                while await client.receive_some():
                    pass
            await client.aclose()
        return heard


prompts = st.text(string.ascii_lowercase, min_size=1, max_size=40)
visits = st.builds(
    Visit,
    prompts,
    st.integers(1, 60) | st.just(ENDLESS),
    sent=st.just(1.0) | st.floats(0, 1),
    lines=st.integers(0, 60),
    half_closes=st.booleans(),
)


@settings(max_examples=100)
@given(st.lists(visits, min_size=1, max_size=12), prompts, st.integers(1, 2))
def test_whoever_leaves_and_whenever_leaves_nothing_behind(
    leaving: list[Visit], prompt: str, slots: int
) -> None:
    decoder = FakeDecoder(slots, context=ENDLESS)
    engine = engine_of(decoder, ignore_eos=True, limits=EngineLimits(buffered_requests=20))
    router = inference_routes(engine, SamplingParameters(), EngineMetrics())
    heard: list[bytes] = []

    async def stay() -> None:
        heard.append(await Visit(prompt, 40).pay(router))

    @in_trio
    async def come_and_go() -> None:
        async with engine.running():
            await wait_all_tasks_blocked()
            tasks = trio.lowlevel.current_statistics().tasks_living
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stay)
                for visit in leaving:
                    nursery.start_soon(visit.pay, router)
            await back_at(tasks, engine, decoder)

    come_and_go()
    stayed = [Text(text) for text in texts(heard[0])]
    assert stayed == expected(prompt, 40, NO_EOS)[:-1]


@on_clock
async def test_who_stops_reading_is_dropped_and_holds_nobody_up(clock: MockClock) -> None:
    decoder = FakeDecoder(2, context=ENDLESS)
    engine = engine_of(decoder, ignore_eos=True)
    router = inference_routes(engine, SamplingParameters(), EngineMetrics())
    # A write to it lasts until it is read.
    client, server = lockstep_stream_pair()
    async with engine.running(), trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        nursery.start_soon(serve_connection, server, router, Limits(), OpenConnections(100))
        await client.send_all(Visit("abc", ENDLESS).request)
        await client.receive_some(1)
        stayed = [Text(text) for text in texts(await Visit("xyz", 40).pay(router))]
        assert stayed == expected("xyz", 40, NO_EOS)[:-1]
        assert engine.requests == 1
        clock.jump(Limits().write_seconds)
        while engine.requests:
            await trio.lowlevel.checkpoint()
        await back_at(tasks, engine, decoder)


async def back_at(tasks: int, engine: Engine, decoder: FakeDecoder) -> None:
    """Wait until nothing but the engine itself is left."""
    assert engine.requests == 0
    while decoder.held != [None] * decoder.slots:
        await engine.sign_of_life()
    while trio.lowlevel.current_statistics().tasks_living > tasks:
        await trio.lowlevel.checkpoint()


def texts(answer: bytes) -> list[str]:
    """The tokens of a whole stream."""
    assert answer.endswith(END)
    chunks = answer.partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2]
    lines = [
        json.loads(chunk)["Response"]["response"]["GeneratedToken"] for chunk in chunks if chunk
    ]
    assert lines[-1] == "Done"
    return [line["Token"] for line in lines[:-1]]
