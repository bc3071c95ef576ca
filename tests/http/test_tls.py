"""TLS on real sockets, with certificates made for the test."""

import os
import ssl
from pathlib import Path

import pytest
import trio
import trustme
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from server.config import Limits
from server.errors import StartError
from server.http.connection import serve_connection
from server.http.listener import bound_addresses, open_listeners, serve
from server.http.open_connections import OpenConnections
from server.http.tls import TlsStream, tls_context
from tests.http.conversation import ECHO, echo
from tests.http.framing_cases import head, sized
from tests.http.test_listener import AHEAD, ANY_PORT, Endless, connect, run, serving

AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `certificate`, `key` and `other-key`."""
    folder = tmp_path_factory.mktemp("tls")
    issued = AUTHORITY.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "certificate")
    issued.private_key_pem.write_to_path(folder / "key")
    AUTHORITY.issue_cert("other").private_key_pem.write_to_path(folder / "other-key")
    return folder


@pytest.fixture(scope="module")
def server_side(files: Path) -> ssl.SSLContext:
    return tls_context(files / "certificate", files / "key")


def client_side(most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.maximum_version = most
    return context


def wrapped(
    stream: trio.SocketStream, context: ssl.SSLContext
) -> trio.SSLStream[trio.SocketStream]:
    return trio.SSLStream(stream, context, server_hostname="localhost")


async def read_all(stream: trio.SSLStream[trio.SocketStream]) -> bytes:
    """All that comes, to the closure alert; without one, it raises."""
    data = b""
    while received := await stream.receive_some():
        data += received
    return data


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_are_answered_to_the_closure_alert(
    server_side: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    async def test() -> None:
        async with (
            serving(echo, tls=server_side) as address,
            wrapped(await connect(address), client_side(version)) as client,
        ):
            await client.send_all(head() + head(b"Connection: close"))
            said = await read_all(client)
            assert said.count(b"HTTP/1.1 200 OK") == 2
            assert client.selected_alpn_protocol() == "http/1.1"

    run(test)


def test_a_refusal_arrives_although_more_was_sent(server_side: ssl.SSLContext) -> None:
    async def test() -> None:
        async with (
            serving(echo, tls=server_side) as address,
            wrapped(await connect(address), client_side()) as client,
        ):
            await client.send_all(sized(b"99999999", b"a" * 100_000))
            assert (await client.receive_some()).startswith(b"HTTP/1.1 413 ")

    run(test)


@pytest.mark.parametrize("ahead", [pytest.param(b"", id="nothing sent ahead"), AHEAD])
def test_leaving_cancels_the_handler(server_side: ssl.SSLContext, ahead: bytes) -> None:
    async def test() -> None:
        endless = Endless()
        async with serving(endless, tls=server_side) as address:
            client = wrapped(await connect(address), client_side())
            await client.send_all(head() + ahead)
            await endless.started.wait()
            await client.aclose()
            await endless.cancelled.wait()

    run(test)


def test_who_speaks_no_tls_or_an_old_one_gets_nothing(server_side: ssl.SSLContext) -> None:
    async def test() -> None:
        async with serving(echo, tls=server_side) as address:
            async with await connect(address) as plain:
                await plain.send_all(head())
                assert b"HTTP" not in await plain.receive_some()
            old = client_side()
            old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            async with await connect(address) as transport:
                with pytest.raises(trio.BrokenResourceError):
                    await wrapped(transport, old).do_handshake()

    run(test)


def test_who_has_said_goodbye_is_let_go_without_a_fault(
    server_side: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        [listener] = await open_listeners(ANY_PORT)
        [address] = bound_addresses([listener])
        connections = OpenConnections(9)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, ECHO, Limits(), connections, server_side)
            client = wrapped(await connect(address), client_side())
            await client.send_all(head(b"Connection: close"))
            await read_all(client)
            transport, _ = await client.unwrap()
            await wait_all_tasks_blocked()
            connections.drain()
            connections.close()
            assert await transport.receive_some() == b""
            await transport.aclose()

    run(test)
    assert caplog.text == ""


def test_a_handshake_has_the_time_of_a_head(server_side: ssl.SSLContext) -> None:
    async def main() -> None:
        client, transport = memory_stream_pair()
        await client.send_all(b"\x16\x03\x01")
        begin = trio.current_time()
        stream = TlsStream(transport, server_side)
        await serve_connection(stream, ECHO, Limits(head_seconds=3), OpenConnections(1))
        assert trio.current_time() - begin == 3

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_key_may_come_through_a_pipe(files: Path) -> None:
    """As a shell has it: --tls-key <(command)."""
    reader, writer = os.pipe()
    os.write(writer, (files / "key").read_bytes())
    os.close(writer)
    with os.fdopen(reader) as pipe:
        tls_context(files / "certificate", Path(f"/dev/fd/{pipe.fileno()}"))


def test_bad_files_are_one_line(files: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate")
    begin, _, rest = (files / "key").read_text().partition("\n")
    encrypted = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{'0' * 32}\n\n"
    (tmp_path / "encrypted").write_text(f"{begin}\n{encrypted}{rest}")
    for certificate, key, says in (
        (tmp_path / "none", files / "key", f"cannot read {tmp_path}/none, for TLS: No such file"),
        (
            files / "certificate",
            tmp_path / "none",
            f"cannot read {tmp_path}/none, for TLS: No such",
        ),
        (files / "certificate", tmp_path, f"certificate or {tmp_path}, for TLS: "),
        (files / "certificate", files / "other-key", "mismatch"),
        (files / "certificate", tmp_path / "encrypted", "the TLS key .*/encrypted is encrypted, "),
        (tmp_path / "text", files / "key", "no TLS certificate"),
        (files / "key", files / "certificate", "no TLS certificate"),
    ):
        with pytest.raises(StartError, match=says) as caught:
            tls_context(certificate, key)
        assert "\n" not in str(caught.value)
