"""Messages to systemd over its socket, and sockets inherited from it."""

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from server.app import watch_over
from server.config import Address, Limits, UnixAddress
from server.errors import StartError
from server.http.listener import adopt, bound_addresses, serve
from server.http.open_connections import OpenConnections
from server.systemd import ServiceManager, inherited_sockets
from tests.engine.clients import Held, asks, engine_of, on_clock
from tests.engine.fake_decoder import FakeDecoder
from tests.http.conversation import ECHO
from tests.http.framing_cases import head


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(10)
        yield receiver


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), **more}


def heard(manager: socket.socket) -> list[bytes]:
    """All messages that have arrived."""
    messages = []
    manager.setblocking(False)
    while True:
        try:
            messages.append(manager.recv(4096))
        except BlockingIOError:
            return messages


def test_it_is_told_what_it_knows(manager: socket.socket) -> None:
    told = ServiceManager.of(environment(manager))
    told.ready("Ready at http://127.0.0.1:8061")
    told.ping_watchdog()
    told.stopping()
    assert heard(manager) == [
        b"READY=1\nSTATUS=Ready at http://127.0.0.1:8061",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_a_name_that_is_not_utf_8_is_told_escaped(manager: socket.socket) -> None:
    ServiceManager.of(environment(manager)).ready(f"Ready at unix:{os.fsdecode(bytes([255]))}")
    assert heard(manager) == [b"READY=1\nSTATUS=Ready at unix:\\udcff"]


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="abstract names are Linux's")
def test_an_address_may_be_abstract() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        name = f"skiff-test-{os.getpid()}"
        receiver.bind("\0" + name)
        ServiceManager.of({"NOTIFY_SOCKET": "@" + name}).stopping()
        assert heard(receiver) == [b"STOPPING=1"]


def test_nobody_is_told_where_nobody_listens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ServiceManager.of({}).ready("ready")
    assert caplog.text == ""
    ServiceManager.of({"NOTIFY_SOCKET": str(tmp_path / "gone")}).stopping()
    assert "STOPPING=1" in caplog.text


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_for_this_process(
    variables: Mapping[str, str], seconds: float | None
) -> None:
    assert ServiceManager.of(variables).watchdog_seconds == seconds


def test_the_watchdog_hears_of_an_idle_engine_but_not_of_one_that_hangs(
    manager: socket.socket,
) -> None:
    @on_clock
    async def test(clock: MockClock) -> None:
        held = Held()
        engine = engine_of(FakeDecoder(on_call=held))
        told = ServiceManager.of(environment(manager, WATCHDOG_USEC="2000000"))
        async with engine.running(), trio.open_nursery() as nursery:
            nursery.start_soon(watch_over, engine, told)
            for _ in range(3):
                await wait_all_tasks_blocked()
                await engine.sign_of_life()
                await wait_all_tasks_blocked()
                clock.jump(1)
            await wait_all_tasks_blocked()
            await engine.sign_of_life()
            await wait_all_tasks_blocked()
            assert heard(manager) == [b"WATCHDOG=1"] * 4
            async with engine.generate(asks("a")):
                await held.begun.wait()
                for _ in range(9):
                    clock.jump(1)
                    await wait_all_tasks_blocked()
                assert heard(manager) == []
                held.let_go()
                await engine.sign_of_life()
                await wait_all_tasks_blocked()
                assert heard(manager) == [b"WATCHDOG=1"]
            nursery.cancel_scope.cancel()

    test()


def test_without_a_watchdog_there_is_nothing_to_do(manager: socket.socket) -> None:
    @on_clock
    async def test(clock: MockClock) -> None:
        await watch_over(engine_of(FakeDecoder()), ServiceManager.of(environment(manager)))

    test()
    assert heard(manager) == []


async def connect_and_leave(port: int) -> None:
    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()


def passed(count: int) -> dict[str, str]:
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count)}


def test_sockets_come_from_the_unit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
        descriptor = os.dup(opened.fileno())
        os.set_inheritable(descriptor, True)
        [inherited] = inherited_sockets(passed(1), first=descriptor)
        assert not inherited.get_inheritable()

    async def accept() -> None:
        [listener] = adopt([inherited])
        assert bound_addresses([listener]) == [Address("127.0.0.1", port)]
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(connect_and_leave, port)
            await (await listener.accept()).aclose()

    trio.run(accept)


def test_the_file_of_an_inherited_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "skiff"

    async def come_and_go(inherited: socket.socket) -> None:
        [listener] = adopt([inherited])
        assert bound_addresses([listener]) == [UnixAddress(str(path))]
        connections = OpenConnections(9)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, ECHO, Limits(), connections)
            async with await trio.open_unix_socket(path) as client:
                await client.send_all(head(b"Connection: close"))
                assert b"GET /" in await client.receive_some()
            connections.drain()

    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))
        opened.listen()
        [inherited] = inherited_sockets(passed(1), first=os.dup(opened.fileno()))
        trio.run(come_and_go, inherited)
    assert path.is_socket()


@pytest.mark.parametrize(
    "variables",
    [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_FDS": "1"}, passed(0)],
)
def test_sockets_for_others_stay_theirs(variables: Mapping[str, str]) -> None:
    assert inherited_sockets(variables) == []


def test_what_is_no_listening_socket_is_one_line(tmp_path: Path) -> None:
    with (
        socket.socket() as silent,
        (tmp_path / "file").open("w") as file,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(str(tmp_path / "datagrams"))
        for descriptor in (os.dup(silent.fileno()), file.fileno(), os.dup(datagrams.fileno())):
            with pytest.raises(StartError, match=f"^descriptor {descriptor} from systemd"):
                inherited_sockets(passed(1), first=descriptor)
