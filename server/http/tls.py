"""TLS on a connection: trio's, on top of the standard library's. Knows no HTTP."""

import ssl
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import trio

from server.errors import StartError


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the context of a server with this certificate (and its chain): TLS 1.2 and later.

    Each file is read once, so it may be a pipe. Raises `StartError`.
    """

    def ask_for_password() -> NoReturn:  # without it, OpenSSL would ask the terminal
        raise StartError(f"the TLS key {key} is encrypted, which is not supported")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        for path in (certificate, key):
            path.stat()  # ssl does not say which one is missing
        context.load_cert_chain(certificate, key, ask_for_password)
    except ssl.SSLError as error:
        reason = (error.reason or "not in PEM form").replace("_", " ").lower()
        raise StartError(
            f"{certificate} and {key} are no TLS certificate and key: {reason}"
        ) from None
    except OSError as error:
        where = error.filename or f"{certificate} or {key}"
        raise StartError(f"cannot read {where}, for TLS: {error.strerror}") from None
    return context


class TlsStream(trio.abc.HalfCloseableStream):
    """The server's end of a TLS connection."""

    def __init__(self, transport: trio.abc.HalfCloseableStream, context: ssl.SSLContext) -> None:
        self.transport = transport
        self._tls = trio.SSLStream(transport, context, server_side=True)
        self._reading: trio.abc.ReceiveStream = self._tls

    async def handshake(self) -> None:
        """Must be called before anything else. Raises trio.BrokenResourceError."""
        await self._tls.do_handshake()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._reading.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._tls.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._tls.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Send the closure alert (RFC 9112, section 9.8), without which a client cannot tell the
        end from a cut; wait for the client's own, and then end the connection beneath."""
        self._reading = self.transport
        # Closed where this is called again, after the client's alert.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._tls.unwrap()
        await self.transport.send_eof()

    async def aclose(self) -> None:
        await self.transport.aclose()
