"""The end of the server, as those meet it who are connected: in memory."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from server.config import Limits
from server.http.connection import serve_connection
from server.http.exchange import Exchange
from server.http.messages import Response
from server.http.open_connections import OpenConnections
from server.http.routing import Route, Router
from tests.http.conversation import ScriptedClient, echo
from tests.http.framing_cases import chunked, head, post, sized

CLOSE = b"\r\nConnection: close\r\n"
REQUESTS = [
    head(),
    head(first=b"HEAD / HTTP/1.1"),
    sized(b"5"),
    post(b"Content-Length: 5", b"Expect: 100-continue", body=b"hello"),
    chunked(b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"),
]


class Held:
    """A handler that answers when it is let go."""

    def __init__(self) -> None:
        self.go = trio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await self.go.wait()
        await exchange.respond(Response(200))

    def let_go(self, connections: OpenConnections) -> None:
        self.go.set()


class HeldStream(Held):
    """The same with an answer that has begun before."""

    async def __call__(self, exchange: Exchange) -> None:
        async with exchange.stream(200, ()):
            await self.go.wait()


Act = Callable[[OpenConnections], None]


def play(client: ScriptedClient, *acts: Act, held: Held | None = None) -> bool:
    """Each act comes when nothing else happens; whether the client is let go of after the last."""
    routes = [Route(method, "/", echo) for method in ("GET", "POST")]
    router = Router([*routes, Route("GET", "/held", held or Held())])

    async def main() -> bool:
        connections = OpenConnections(9)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, client, router, Limits(), connections)
            await wait_all_tasks_blocked()
            for act in acts:
                act(connections)
                await wait_all_tasks_blocked()
            closed = client.closed
            nursery.cancel_scope.cancel()
        return closed

    return trio.run(main)


def test_an_answer_is_the_last_one_while_draining() -> None:
    held = Held()
    client = ScriptedClient([head(first=b"GET /held HTTP/1.1"), head() * 3])
    play(client, OpenConnections.drain, held.let_go, held=held)
    assert client.statuses == [200]
    assert CLOSE in client.transcript


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda data: repr(data[:20]))
def test_who_is_in_the_middle_of_a_request_hears_that_there_is_no_time_left(
    request_: bytes,
) -> None:
    for end in range(1, len(request_)):
        client = ScriptedClient([request_[:end]])
        play(client, OpenConnections.drain)
        assert set(client.statuses) <= {100}
        play(
            client := ScriptedClient([request_[:end]]), OpenConnections.drain, OpenConnections.close
        )
        assert [status for status in client.statuses if status != 100] == [503]
        assert CLOSE in client.transcript
        assert b"\r\nRetry-After: " in client.transcript


@pytest.mark.parametrize("packets", [[], [head()], [head(), head()]])
def test_who_is_in_the_middle_of_nothing_is_let_go_without_a_word(packets: list[bytes]) -> None:
    client = ScriptedClient(packets)
    assert play(client, OpenConnections.drain, OpenConnections.close)
    assert client.statuses == [200] * len(packets)


def test_who_waits_for_an_answer_gets_it_to_the_last() -> None:
    held = Held()
    client = ScriptedClient([head(first=b"GET /held HTTP/1.1")])
    play(client, OpenConnections.drain, OpenConnections.close, held.let_go, held=held)
    assert client.statuses == [200]
    assert CLOSE in client.transcript


def test_who_may_still_read_its_last_answer_is_not_cut_off() -> None:
    client = ScriptedClient([head(b"Connection: close")])
    assert not play(client, OpenConnections.drain, OpenConnections.close)
    assert client.statuses == [200]


def test_who_was_told_nothing_of_the_end_is_let_go_after_its_stream() -> None:
    held = HeldStream()
    client = ScriptedClient([head(first=b"GET /held HTTP/1.1")])
    assert play(client, OpenConnections.drain, OpenConnections.close, held.let_go, held=held)
    assert client.transcript.endswith(b"0\r\n\r\n")
    assert CLOSE not in client.transcript
