"""A server to measure, and the bytes of requests to it. Knows h11; does not know connections."""

import json
import re
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

from model_tools.bench.serve.dialect import Dialect, Settings
from model_tools.bench.serve.prompts import Request
from server.config import Address
from server.errors import StartError

_HOST = r"(\[[0-9A-F:.]+\]|[A-Z0-9_-]{1,63}(\.[A-Z0-9_-]{1,63})*\.?)"
_URL = re.compile(rf"https?://{_HOST}(:[0-9]+)?(/[!-~]*)?", re.IGNORECASE | re.ASCII)
"""A host that a resolver accepts, and a path that the head of a request may have."""


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    host: str
    port: int
    base: str
    """Prefix of its paths."""
    dialect: Dialect
    tls: ssl.SSLContext | None = None
    """Trusts the system's authorities, or those in SSL_CERT_FILE. None for plain HTTP."""
    api_key: str | None = None

    @classmethod
    def of(
        cls, url: str, dialect: Dialect, name: str | None = None, api_key: str | None = None
    ) -> "Target":
        """Raises `StartError`."""
        try:
            parts = urlsplit(url)
            secure = parts.scheme == "https"
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise StartError(f"{url}: {error}") from None
        if not _URL.fullmatch(url):
            raise StartError(
                f"{url}: must be http://HOST:PORT or https://HOST:PORT, and may have a path,"
                " in ASCII"
            )
        if port is None:
            port = 443 if secure else 80
        base = parts.path.rstrip("/")
        tls = ssl.create_default_context() if secure else None
        return cls(name or parts.netloc, host, port, base, dialect, tls, api_key)

    def post(self, request: Request, settings: Settings) -> "Call":
        body = json.dumps(self.dialect.body(request, settings)).encode()
        return self._call("POST", self.dialect.path, body)

    def get(self, path: str) -> "Call":
        return self._call("GET", path, b"")

    def _call(self, method: str, path: str, body: bytes) -> "Call":
        connection = h11.Connection(h11.CLIENT)
        headers = [
            ("Host", str(Address(self.host, self.port))),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            # The answer then ends with the connection, and need not be parsed while the clock runs.
            ("Connection", "close"),
        ]
        if self.api_key is not None:
            headers.append(("Authorization", f"Bearer {self.api_key}"))
        head = h11.Request(method=method, target=self.base + path, headers=headers)
        events = (head, h11.Data(data=body), h11.EndOfMessage())
        return Call(connection, b"".join(connection.send(event) or b"" for event in events))


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One request to a server."""

    connection: h11.Connection
    """In the state after sending the request: it expects the answer's bytes."""
    request: bytes
