"""One connection's life in memory: keeping alive, deadlines, leaving, bounded memory."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from server.config import Limits
from server.errors import ClientError
from server.http.connection import serve_connection
from server.http.exchange import Exchange, Handler
from server.http.messages import Response
from server.http.open_connections import OpenConnections
from server.http.routing import Route, Router
from tests.http.conversation import ECHO, ScriptedClient, converse, echo
from tests.http.framing_cases import head, post, sized

TIMES = pytest.mark.parametrize(
    "limits",
    [Limits(), Limits(head_seconds=3, body_seconds=5.5, idle_seconds=2.5, write_seconds=7)],
    ids=["defaults", "others"],
)
LINGER = 2.0
"""Seconds that a client has to close after the server did."""


class SlowClient(ScriptedClient):
    """Sends a packet every second."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep(1)
        return await super().receive_some(max_bytes)


class Unreading(ScriptedClient):
    """Takes one write and then nothing more."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.writes:
            await trio.sleep_forever()
        await super().send_all(data)


class Broken(ScriptedClient):
    """Resets the connection instead of taking anything."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError


def seconds(client: ScriptedClient, router: Router = ECHO, limits: Limits | None = None) -> float:
    """How long the connection lived, on the virtual clock."""

    async def measure() -> float:
        start = trio.current_time()
        await serve_connection(client, router, limits or Limits(), OpenConnections(1))
        return trio.current_time() - start

    return trio.run(measure, clock=MockClock(autojump_threshold=0))


def routed(handler: Handler) -> Router:
    return Router([Route("GET", "/", handler)])


def each_byte(data: bytes) -> Sequence[bytes]:
    return [bytes([byte]) for byte in data]


def test_ten_thousand_requests_fit_one_connection() -> None:
    [client] = converse([head()] * 10_000)
    assert client.statuses == [200] * 10_000


@TIMES
def test_an_idle_connection_is_closed_without_a_word(limits: Limits) -> None:
    client = ScriptedClient([])
    assert seconds(client, limits=limits) == limits.idle_seconds
    assert client.writes == []


@TIMES
def test_idleness_counts_from_the_last_answer(limits: Limits) -> None:
    client = SlowClient([head(), head()])
    assert seconds(client, limits=limits) == 2 + limits.idle_seconds
    assert client.statuses == [200, 200]


@pytest.mark.parametrize("packets", [[head() + b"\r\n"], [head(), b"\r", b"\n"], [head() + b"\r"]])
def test_an_empty_line_after_an_answer_begins_no_request(packets: list[bytes]) -> None:
    client = ScriptedClient(packets)
    assert seconds(client) == Limits().idle_seconds
    assert client.statuses == [200]


@TIMES
def test_a_head_has_its_time_whatever_arrives(limits: Limits) -> None:
    client = SlowClient(each_byte(head(b"A: " + b"b" * 99)))
    assert seconds(client, limits=limits) == 1 + limits.head_seconds + LINGER
    assert client.statuses == [408]


@TIMES
def test_a_body_has_its_time_whatever_arrives(limits: Limits) -> None:
    client = SlowClient([sized(b"99", b""), *each_byte(b"a" * 99)])
    assert seconds(client, limits=limits) == 1 + limits.body_seconds + LINGER
    assert client.statuses == [408]


def test_an_answer_has_all_the_time_it_needs() -> None:
    async def slow(exchange: Exchange) -> None:
        await trio.sleep(3600)
        await exchange.respond(Response(200))

    client = ScriptedClient([head()])
    assert seconds(client, routed(slow)) == 3600 + Limits().idle_seconds
    assert client.statuses == [200]


@TIMES
def test_a_client_that_does_not_read_is_dropped(limits: Limits) -> None:
    ended = []

    async def endless(exchange: Exchange) -> None:
        try:
            async with exchange.stream(200, ()) as send:
                while True:
                    await send(b"more\n")
        finally:
            ended.append(trio.current_time())

    client = Unreading([head()])
    assert seconds(client, routed(endless), limits) == limits.write_seconds
    assert len(ended) == 1


@pytest.mark.parametrize("data", [head()[:-1], sized(b"9", b"half"), b""], ids=str)
def test_who_leaves_in_the_middle_gets_no_answer(data: bytes) -> None:
    [client] = converse([data], leaves=True)
    assert client.writes == []


def test_leaving_cancels_the_handler() -> None:
    heard = []

    async def wait(exchange: Exchange) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            heard.append("cancelled")
            raise

    [client] = converse([head()], router=routed(wait), leaves=True)
    assert heard == ["cancelled"]
    assert client.writes == []


def test_who_leaves_is_not_answered_what_was_pipelined() -> None:
    calls = []

    async def wait(exchange: Exchange) -> None:
        calls.append(exchange.request.id)
        await trio.sleep_forever()

    converse([head() * 3], router=routed(wait), leaves=True)
    assert len(calls) == 1


def test_leaving_is_noticed_at_a_write_too() -> None:
    ended = []

    async def endless(exchange: Exchange) -> None:
        try:
            async with exchange.stream(200, ()) as send:
                while True:
                    await send(b"more\n")
        finally:
            ended.append("ended")

    assert seconds(Broken([head()]), routed(endless)) == 0
    assert ended == ["ended"]


def test_an_answered_request_bounds_what_is_read_ahead() -> None:
    async def slow(exchange: Exchange) -> None:
        await trio.sleep(1)
        taken.append(sent - client.unread)
        await exchange.respond(Response(200))

    taken: list[int] = []
    requests = 1_000
    client = ScriptedClient([head()] * requests)
    sent = client.unread
    seconds(client, routed(slow))
    assert client.statuses == [200] * requests
    ahead = [total - len(head()) * (at + 1) for at, total in enumerate(taken)]
    assert max(ahead) <= Limits().read_ahead_bytes + len(head())


def test_pipelined_requests_are_answered_in_order() -> None:
    order = [f"/?{number}".encode() for number in range(50)]
    [client] = converse([b"".join(head(first=b"GET %b HTTP/1.1" % path) for path in order)])
    bodies = [write.rpartition(b"\r\n\r\n")[2] for write in client.writes]
    assert bodies == [b"GET / %b " % path[2:] for path in order]


def test_a_whole_answer_is_one_write() -> None:
    [client] = converse([post()])
    assert len(client.writes) == 1


def test_every_answer_has_a_date() -> None:
    [client] = converse([head() + head(first=b"GET /no HTTP/1.1") + b"\0"])
    assert [b"\r\nDate: " in write for write in client.writes] == [True] * 3


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"DELETE"])
@pytest.mark.parametrize("target", [b"/whole", b"/stream", b"/refused", b"/nothing"])
def test_a_head_that_h11_need_not_follow_has_the_same_answer(method: bytes, target: bytes) -> None:
    async def stream(exchange: Exchange) -> None:
        async with exchange.stream(200, ()) as send:
            await send(b"one")

    async def refuse(exchange: Exchange) -> None:
        raise ClientError(422, "no")

    routes = ((b"/whole", echo), (b"/stream", stream), (b"/refused", refuse))
    router = Router([Route("GET", path.decode(), handler) for path, handler in routes])
    request = b"%b %b HTTP/1.1" % (method, target)
    plain, followed = head(first=request), head(b"Connection: keep-alive", first=request)
    sole, other, mixed = converse(
        [plain * 4], [followed * 4], [(plain + followed) * 2], router=router
    )
    assert len(sole.statuses) == 4
    assert sole.transcript == other.transcript == mixed.transcript


def test_a_body_that_h11_need_not_follow_changes_no_answer() -> None:
    sized, coded = (
        (b"Content-Length: 2", b"hi"),
        (b"Transfer-Encoding: chunked", b"2\r\nhi\r\n0\r\n\r\n"),
    )
    for field, body in (sized, coded):
        plain = post(field, body=body)
        followed = post(field, b"Connection: keep-alive", body=body)
        sole, other, mixed = converse([plain * 4], [followed * 4], [(plain + followed) * 2])
        assert sole.transcript.count(b"POST /  hi") == 4
        assert sole.transcript == other.transcript == mixed.transcript


def test_a_refused_head_request_has_no_body() -> None:
    malformed = head(b"A : b", first=b"HEAD / HTTP/1.1")
    wrong_path = head(first=b"HEAD /no HTTP/1.1")
    too_long = head(first=b"HEAD /%b HTTP/1.1" % (b"a" * 8192))
    too_new = head(first=b"HEAD / HTTP/1.2")
    for client in converse([malformed], [wrong_path], [too_long], [too_new]):
        answer = b"".join(client.writes)
        assert answer.endswith(b"\r\n\r\n")
        [as_for_get] = converse([client.sent.replace(b"HEAD", b"GET")])
        assert as_for_get.transcript.startswith(client.transcript)


def test_one_byte_chunks_are_refused_before_they_cost_much() -> None:
    coding = b"Transfer-Encoding: chunked"
    [client] = converse([post(coding) + b"1\r\nx\r\n" * 1_000_000])
    assert client.statuses == [413]
    assert client.unread > 0


def test_what_a_refused_client_still_sends_is_read_however_small_its_packets() -> None:
    nowhere = post(b"Content-Length: 5000").replace(b"/ ", b"/no ")
    [client] = converse([nowhere, *[b"x"] * 5_000])
    assert client.statuses == [404]
    assert client.unread == 0


def test_what_a_refused_client_still_sends_is_not_read_for_ever() -> None:
    most = Limits().body_bytes
    [client] = converse([post(b"Content-Length: 99999999"), *[b"x" * most] * 5])
    assert client.statuses == [413]
    assert client.unread > most
