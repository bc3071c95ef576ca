"""UNIX sockets: the file, and what stands in its way."""

import socket
import stat
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from server.config import UnixAddress
from server.errors import StartError
from server.http.listener import bound_addresses, open_listeners
from tests.http.conversation import echo
from tests.http.framing_cases import head
from tests.http.test_listener import connect, read_until, run, serving


def test_requests_are_answered_and_the_file_goes(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "skiff"
        async with serving(echo, at=UnixAddress(str(path))) as address:
            assert address == UnixAddress(str(path))
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            async with await connect(address) as client:
                await client.send_all(head())
                await read_until(client, b"GET /  ")
        assert not path.exists()

    run(test)


def test_the_file_of_an_ended_server_is_replaced(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "skiff"
        with socket.socket(socket.AF_UNIX) as ended:
            ended.bind(str(path))
        async with serving(echo, at=UnixAddress(str(path))) as address:
            await (await connect(address)).aclose()

    run(test)


def test_the_file_of_another_server_is_not(tmp_path: Path) -> None:
    async def test() -> None:
        at = UnixAddress(str(tmp_path / "skiff"))
        async with serving(echo, at=at) as address:
            with pytest.raises(StartError, match="another process listens there"):
                await open_listeners(at)
            await (await connect(address)).aclose()

    run(test)


def test_nor_is_that_of_one_that_is_stuck(tmp_path: Path) -> None:
    async def test() -> None:
        path = str(tmp_path / "skiff")
        with ExitStack() as sockets:
            stuck, *visitors = (
                sockets.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)
            )
            stuck.bind(path)
            stuck.listen(0)
            for visitor in visitors:
                visitor.setblocking(False)
                with suppress(BlockingIOError):
                    visitor.connect(path)
            with pytest.raises(StartError, match="another process listens there"):
                await open_listeners(UnixAddress(path))

    run(test)


def test_a_later_servers_file_is_left_alone(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "skiff"
        async with serving(echo, at=UnixAddress(str(path))) as address:
            await (await connect(address)).aclose()
            path.unlink()
            [later] = await open_listeners(UnixAddress(str(path)))
        async with later:
            assert bound_addresses([later]) == [UnixAddress(str(path))]
            assert path.exists()

    run(test)


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "letter"
        path.write_text("dear")
        with pytest.raises(StartError, match="is no socket"):
            await open_listeners(UnixAddress(str(path)))
        assert path.read_text() == "dear"
        with pytest.raises(StartError, match="cannot listen on unix:"):
            await open_listeners(UnixAddress(str(tmp_path / "none" / "skiff")))

    run(test)
