"""Who may call: keys, origins and host names, seen from the wire."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from server.config import Address, UnixAddress
from server.errors import StartError
from server.http.api_keys import ApiKeys
from server.http.cors import Cors
from server.http.gate import Gate
from server.http.hosts import AnyHost, Hosts, LocalHosts, hosts_for
from server.http.routing import Route, Router
from tests.http.conversation import ScriptedClient, converse, echo
from tests.http.framing_cases import head

ROUTER = Router(
    [
        Route("GET", "/health", echo),
        Route("GET", "/", echo),
        Route("POST", "/json", echo, consumes=b"application/json"),
    ]
)
ORIGIN = b"https://pages.example"
ALLOWED = b"\r\nAccess-Control-Allow-Origin: https://pages.example\r\n"
VARY = b"\r\nVary: Origin\r\n"
PREFLIGHT = (b"Origin: " + ORIGIN, b"Access-Control-Request-Method: POST")


def ask(
    first: bytes,
    *fields: bytes,
    body: bytes = b"",
    host: bytes | None = b"localhost",
    hosts: Hosts | None = None,
    origins: Sequence[str] = (),
    keys: Sequence[str] = (),
) -> ScriptedClient:
    known = ApiKeys(list(keys)) if keys else None
    gate = Gate(ROUTER, hosts or AnyHost(), Cors(origins), known, {"/health"})
    version = b"" if b" HTTP/" in first else b" HTTP/1.1"
    sent = head(*fields, first=first + version, host=host) + body
    [client] = converse([sent], router=gate)
    return client


@pytest.mark.parametrize("credentials", [b"Bearer one", b"bearer two=", b"BEARER  one"])
def test_a_known_key_is_let_in(credentials: bytes) -> None:
    client = ask(b"GET /", b"Authorization: " + credentials, keys=["one", "two="])
    assert client.statuses == [200]


@pytest.mark.parametrize(
    "credentials",
    [
        b"Bearer",
        b"Bearer on",
        b"Bearer ones",
        b"Bearer One",
        b"Bearer one two",
        b"Bearer one, Bearer one",
        b"Bearer\tone",
        b"Bearer \t one",
        b"Bearerone",
        b"Basic one",
        b"one",
        b"",
        b"Bearer " + b"\xff" * 4000,
    ],
)
def test_another_key_is_not(credentials: bytes) -> None:
    client = ask(b"GET /", b"Authorization: " + credentials, keys=["one"])
    assert client.statuses == [401]
    challenge = b'\r\nWWW-Authenticate: Bearer realm="skiff", error="invalid_token"\r\n'
    assert challenge in client.transcript


def test_without_a_key_nothing_is_told_but_that() -> None:
    for first in (b"GET /", b"GET /no", b"DELETE /", b"OPTIONS *", b"OPTIONS /", b"HEAD /"):
        client = ask(first, keys=["one"])
        assert client.statuses == [401]
        assert b'\r\nWWW-Authenticate: Bearer realm="skiff"\r\n' in client.transcript


def test_who_asks_for_health_needs_no_key() -> None:
    assert ask(b"GET /health", keys=["one"]).statuses == [200]
    assert ask(b"HEAD /health", keys=["one"]).statuses == [200]
    assert ask(b"GET /health/", keys=["one"]).statuses == [401]


def test_a_body_is_not_awaited_from_who_shows_no_key() -> None:
    fields = (b"Content-Type: application/json", b"Content-Length: 9", b"Expect: 100-continue")
    client = ask(b"POST /json", *fields, keys=["one"])
    assert client.statuses == [401]
    assert b"\r\nConnection: close\r\n" in client.transcript


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the team\none  # Ada's\n\n\ttwo==\r\n")
    keys = ApiKeys.read(file)
    for key, known in [(b"one", True), (b"two==", True), (b"#", False), (b"", False)]:
        assert keys.knows(key) is known


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no API key"),
        (b"# nothing\n\n", "has no API key"),
        (b"good\nnot good\n", "line 2: a key is letters"),
        (b"=\n", "line 1: a key is letters"),
        (b"k\xc3\xa9y\n", "not ASCII"),
    ],
)
def test_a_bad_key_file_is_one_line_without_a_key(
    tmp_path: Path, content: bytes, says: str
) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(StartError, match=re.escape(says)) as caught:
        ApiKeys.read(file)
    assert "\n" not in str(caught.value)
    assert "good" not in str(caught.value)


def test_a_missing_key_file_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(StartError, match="cannot read the API keys: "):
            ApiKeys.read(path)


@pytest.mark.parametrize("first", [b"GET /", b"GET /no", b"POST /json"])
def test_a_page_of_a_named_origin_may_read_every_answer(first: bytes) -> None:
    client = ask(first, b"Origin: " + ORIGIN, origins=[ORIGIN.decode(), "http://b"])
    assert ALLOWED in client.transcript
    assert VARY in client.transcript


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"https://pages.example.evil",
        b"https://pages.example:444",
        b"http://pages.example",
        b"HTTPS://pages.example",
        b"https://pages.example/",
        b"null",
        b"*",
        b"",
    ],
)
def test_a_foreign_origin_is_never_reflected(origin: bytes) -> None:
    for origins in ([], [ORIGIN.decode()]):
        for first, *fields in [(b"GET /",), (b"OPTIONS /", b"Access-Control-Request-Method: GET")]:
            client = ask(first, b"Origin: " + origin, *fields, origins=origins)
            assert b"Access-Control" not in client.transcript
            assert (VARY in client.transcript) is bool(origins)
            assert client.statuses == [
                200 if first == b"GET /" else 400 if origins else 204,
            ]


def test_without_origins_an_answer_says_nothing_of_them() -> None:
    client = ask(b"GET /", b"Origin: " + ORIGIN)
    assert client.statuses == [200]
    assert b"Vary" not in client.transcript


def test_a_browser_may_ask_before_without_a_key() -> None:
    fields = b"Access-Control-Request-Headers: content-type, Authorization"
    client = ask(b"OPTIONS /json", *PREFLIGHT, fields, origins=[ORIGIN.decode()], keys=["one"])
    assert client.statuses == [200]
    for field in (
        ALLOWED,
        VARY,
        b"\r\nAccess-Control-Allow-Methods: DELETE, GET, POST, PUT, OPTIONS\r\n",
        b"\r\nAccess-Control-Allow-Headers: Accept, Authorization, Content-Type\r\n",
        b"\r\nAccess-Control-Max-Age: 3600\r\n",
        b"\r\nContent-Length: 0\r\n",
    ):
        assert field in client.transcript
    assert b"Credentials" not in client.transcript


@pytest.mark.parametrize(
    "field", [b"Access-Control-Request-Headers: x-other", b"Access-Control-Request-Headers: a b"]
)
def test_what_a_page_may_not_send_is_refused_before(field: bytes) -> None:
    client = ask(b"OPTIONS /json", *PREFLIGHT, field, origins=[ORIGIN.decode()])
    assert client.statuses == [400]
    other = (PREFLIGHT[0], b"Access-Control-Request-Method: TRACE")
    assert ask(b"OPTIONS /json", *other, origins=[ORIGIN.decode()]).statuses == [400]


def test_only_a_preflight_needs_no_key() -> None:
    origins = [ORIGIN.decode()]
    assert ask(b"GET /", *PREFLIGHT, origins=origins, keys=["one"]).statuses == [401]
    assert ask(b"OPTIONS /", PREFLIGHT[0], origins=origins, keys=["one"]).statuses == [401]


LOCAL = LocalHosts(["Named.example", "10.0.0.1"])


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"LOCALHOST:8061",
        b"127.0.0.1",
        b"127.0.0.1:80",
        b"127.1.2.3",
        b"[::1]",
        b"[::1]:8061",
        b"[0:0:0:0:0:0:0:1]",
        b"[::ffff:127.0.0.1]",
        b"named.EXAMPLE:1",
        b"10.0.0.1",
    ],
)
def test_this_machine_goes_by_its_names(host: bytes) -> None:
    assert ask(b"GET /", host=host, hosts=LOCAL).statuses == [200]


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:8061",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"named.example.",
        b"10.0.0.2",
        b"0.0.0.0",
        b"[::]",
        b"[::ffff:10.0.0.2]",
        b"2130706433",
        b"127.1",
    ],
)
def test_a_foreign_name_is_not_served(host: bytes) -> None:
    client = ask(b"GET /health", host=host, hosts=LOCAL)
    assert client.statuses == [421]
    # A target in absolute form names whom it is for, like Host.
    absolute = b"GET http://" + host + b"/health"
    assert ask(absolute, host=host, hosts=LOCAL).statuses == [421]
    assert ask(absolute + b" HTTP/1.0", host=None, hosts=LOCAL).statuses == [421]


def test_what_a_proxy_says_about_names_does_not_count() -> None:
    foreign = ask(b"GET /", b"X-Forwarded-Host: localhost", host=b"evil.example", hosts=LOCAL)
    assert foreign.statuses == [421]
    local = ask(b"GET /", b"X-Forwarded-Host: evil.example", b"Forwarded: host=e", hosts=LOCAL)
    assert local.statuses == [200]


def test_balancers_need_no_host() -> None:
    assert ask(b"GET /health HTTP/1.0", host=None, hosts=LOCAL).statuses == [200]


def test_names_are_checked_on_loopback_addresses_only() -> None:
    name = Address("box", 1)
    for loopback in (Address("127.0.0.1", 1), Address("::1", 1)):
        assert "box" in hosts_for(loopback, name, [])
        assert "evil.example" not in hosts_for(loopback, name, [])
        assert "other.example" in hosts_for(loopback, name, ["other.example"])
        assert "evil.example" in hosts_for(loopback, name, ["a", "*"])
    assert "evil.example" in hosts_for(UnixAddress("/socket"), name, [])
    assert "evil.example" in hosts_for(Address("10.0.0.1", 1), name, [])
    assert "evil.example" in hosts_for(Address("::", 1), name, ["a"])
