"""API keys that requests must show (RFC 6750), and the file that holds them. Knows no route."""

import hmac
import re
from hashlib import sha256
from pathlib import Path

from server.errors import StartError
from server.http.messages import Headers, RequestHead
from server.http.refusal import Refusal

_KEY = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_CREDENTIALS = re.compile(rb"bearer +(.*)", re.IGNORECASE | re.DOTALL)


class ApiKeys:
    """A set of keys, of which only digests are kept."""

    def __init__(self, keys: list[str]) -> None:
        # Digests have one length, so that comparing them does not reveal a key's length.
        self._digests = [sha256(key.encode("ascii")).digest() for key in keys]

    @classmethod
    def read(cls, path: Path) -> "ApiKeys":
        """Read the keys from a file. Raises `StartError`."""
        return cls(read_keys(path))

    def check(self, head: RequestHead) -> None:
        """Raises `Refusal` (401) unless `head` shows a key of the set."""
        credentials = head.field(b"authorization")
        if credentials is None:
            raise Refusal(401, "this server asks for an API key", _challenge())
        match = _CREDENTIALS.fullmatch(credentials)
        if match is None or not self.knows(match[1]):
            raise Refusal(401, "the API key is not valid", _challenge(b', error="invalid_token"'))

    def knows(self, key: bytes) -> bool:
        """Whether `key` is one of the set."""
        digest = sha256(key).digest()
        # All are compared, so that the time does not tell which one matches.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def read_keys(path: Path) -> list[str]:
    """Return the keys of a file, at least one: one per line, without empty lines and anything after
    a `#`. Raises `StartError`."""
    try:
        lines = path.read_text("ascii").splitlines()
    except OSError as error:
        raise StartError(f"cannot read the API keys: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartError(f"cannot read the API keys: {path}: it is not ASCII text") from None
    keys = []
    for number, line in enumerate(lines, 1):
        key = line.partition("#")[0].strip()
        if key and not _KEY.fullmatch(key):
            raise StartError(f"{path}, line {number}: a key is letters, digits and -._~+/ only")
        keys += [key] if key else []
    if not keys:
        raise StartError(f"{path} has no API key")
    return keys


def _challenge(error: bytes = b"") -> Headers:
    return ((b"WWW-Authenticate", b'Bearer realm="skiff"' + error),)
