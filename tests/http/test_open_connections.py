"""More clients than may be connected: who is closed, who is refused, who stays."""

from collections.abc import Awaitable, Callable
from enum import Enum

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from server.config import Limits
from server.http.connection import serve_connection
from server.http.exchange import Exchange
from server.http.messages import Response
from server.http.open_connections import OpenConnections
from server.http.routing import Route, Router
from tests.http.conversation import ScriptedClient
from tests.http.framing_cases import head

BUSY = head(first=b"GET /busy HTTP/1.1")


async def busy(exchange: Exchange) -> None:
    await trio.sleep(60)
    await exchange.respond(Response(200))


async def quick(exchange: Exchange) -> None:
    await exchange.respond(Response(200))


class Step(Enum):
    ENTERS = "enters"
    CARRIES = "carries"
    WAITS = "waits"
    LEAVES = "leaves"


class Server:
    """Clients of one server with few connections, one second after the other."""

    def __init__(self, nursery: trio.Nursery, most: int) -> None:
        self._nursery = nursery
        self._places = OpenConnections(most)
        self._router = Router([Route("GET", "/", quick), Route("GET", "/busy", busy)])

    async def connect(self, *packets: bytes) -> ScriptedClient:
        client = ScriptedClient(packets)
        limits = Limits(idle_seconds=1000, head_seconds=1000)
        self._nursery.start_soon(serve_connection, client, self._router, limits, self._places)
        await trio.sleep(1)
        return client


def play(most: int, scene: Callable[[Server], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await scene(Server(nursery, most))
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_who_waited_longest_makes_room() -> None:
    async def scene(server: Server) -> None:
        silent = await server.connect()
        slow = await server.connect(b"GET / HT")
        idle = await server.connect(head())
        newest = await server.connect(BUSY)
        assert [client.closed for client in (silent, slow, idle, newest)] == [True, *[False] * 3]
        await server.connect(BUSY)
        await server.connect(BUSY)
        assert [client.closed for client in (slow, idle, newest)] == [True, True, False]
        assert silent.writes == slow.writes == []

    play(3, scene)


def test_waiting_counts_from_the_last_answer() -> None:
    async def scene(server: Server) -> None:
        early = await server.connect(BUSY)
        late = await server.connect(head())
        await trio.sleep(60)
        await server.connect()
        assert (early.closed, late.closed) == (False, True)

    play(2, scene)


def test_who_comes_when_all_are_busy_is_told_when_to_come_again() -> None:
    async def scene(server: Server) -> None:
        workers = [await server.connect(BUSY) for _ in range(2)]
        refused = await server.connect(head())
        assert refused.statuses == [503]
        assert b"\r\nRetry-After: 1\r\n" in refused.transcript
        assert b"\r\nConnection: close\r\n" in refused.transcript
        await trio.sleep(60)
        assert [worker.statuses for worker in workers] == [[200]] * 2
        assert refused.closed
        assert (await server.connect(head())).statuses == [200]

    play(2, scene)


def test_who_ends_in_the_turn_in_which_a_request_arrives_is_not_answered() -> None:
    connections = OpenConnections(1)
    asked: list[str] = []

    class Ended(ScriptedClient):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            data = await super().receive_some(max_bytes)
            assert connections.add(trio.CancelScope())
            return data

    async def note(exchange: Exchange) -> None:
        asked.append(exchange.request.id)

    client = Ended([head()])
    router = Router([Route("GET", "/", note)])
    trio.run(serve_connection, client, router, Limits(), connections)
    assert asked == []
    assert client.writes == []


class Turns(trio.abc.Instrument):
    """Counts the turns of the event loop."""

    count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


def test_beside_an_answer_each_request_of_a_burst_begins_in_a_turn_of_its_own() -> None:
    turns = Turns()
    begun: list[int] = []

    async def note(exchange: Exchange) -> None:
        begun.append(turns.count)
        await exchange.respond(Response(200))

    router = Router([Route("GET", "/", note), Route("GET", "/busy", busy)])

    async def main() -> None:
        connections = OpenConnections(11)
        async with trio.open_nursery() as nursery:
            for packets in ([BUSY], [head()] * 10):
                for packet in packets:
                    client = ScriptedClient([packet])
                    nursery.start_soon(serve_connection, client, router, Limits(), connections)
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main, instruments=[turns])
    assert len(set(begun)) == len(begun) == 10


def test_who_is_about_to_begin_a_request_is_not_ended_for_a_new_client() -> None:
    connections = OpenConnections(2)
    carrying, beginning, new = trio.CancelScope(), trio.CancelScope(), trio.CancelScope()

    async def main() -> None:
        for each in (carrying, beginning):
            assert connections.add(each)
        connections.request_arrived(carrying)
        async with trio.open_nursery() as nursery, connections._turnstile:
            nursery.start_soon(connections.take_turn, beginning)
            await wait_all_tasks_blocked()
            assert not connections.add(new)
            assert not beginning.cancel_called
        assert connections.add(new)
        assert beginning.cancel_called

    trio.run(main)


def test_the_refused_are_bounded_too() -> None:
    async def scene(server: Server) -> None:
        await server.connect(BUSY)
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(server.connect, head())
            await trio.sleep(0.5)
            statistics = trio.lowlevel.current_statistics()
            assert statistics.tasks_living < 150

    play(1, scene)


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from(Step), st.integers(0, 9))))
def test_who_ends_is_who_began_to_wait_first(most: int, steps: list[tuple[Step, int]]) -> None:
    """Against a plain list of who waits and who carries a request."""

    async def main() -> None:
        connections = OpenConnections(most)
        scopes = [trio.CancelScope() for _ in range(10)]
        waiting: list[int] = []
        carrying: list[int] = []
        ended: set[int] = set()
        for step, who in steps:
            if step is Step.ENTERS and who not in [*waiting, *carrying, *ended]:
                room = len(carrying) < most
                assert connections.add(scopes[who]) is room
                if room and len(waiting + carrying) == most:
                    ended.add(waiting.pop(0))
                if room:
                    waiting.append(who)
            elif step is Step.CARRIES and who in waiting:
                connections.request_arrived(scopes[who])
                waiting.remove(who)
                carrying.append(who)
            elif step is Step.WAITS:
                connections.request_answered(scopes[who])
                if who in [*waiting, *carrying]:
                    waiting = [*(other for other in waiting if other != who), who]
                    carrying = [other for other in carrying if other != who]
            elif step is Step.LEAVES:
                connections.remove(scopes[who])
                waiting = [other for other in waiting if other != who]
                carrying = [other for other in carrying if other != who]
            assert ended == {at for at, scope in enumerate(scopes) if scope.cancel_called}

    trio.run(main)
