"""What a client may send and what it gets, rule by rule: RFC 9110, RFC 9112 and RFC 3986."""

from dataclasses import dataclass

from server.config import Limits

LIMITS = Limits(target_bytes=64, header_bytes=256, header_fields=6, body_bytes=40, body_chunks=5)
"""Small enough to cut each case at each point."""


@dataclass(frozen=True)
class Case:
    rule: str
    sent: bytes
    statuses: tuple[int, ...] = (200,)
    body: bytes | None = None
    """What the first answer says, where that matters."""
    survives: bool | None = None
    """Whether the connection carries another request; None: if nothing was refused."""

    @property
    def is_last(self) -> bool:
        """Whether the server closes the connection."""
        return self.statuses[-1] >= 400 if self.survives is None else not self.survives


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes | None = b"x") -> bytes:
    hosts = () if host is None else (b"Host: " + host,)
    return b"".join(line + b"\r\n" for line in (first, *hosts, *lines, b""))


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return head(*lines, first=b"POST / HTTP/1.1") + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *lines, body=body)


def sized(value: bytes, body: bytes = b"hello") -> bytes:
    return post(b"Content-Length: " + value, body=body)


def first(line: bytes) -> bytes:
    return head(first=line)


REQUEST_LINE = [
    Case("9112-3 a request line", first(b"GET / HTTP/1.1")),
    Case("9112-3 two spaces", first(b"GET  / HTTP/1.1"), (400,)),
    Case("9112-3 a tab for a space", first(b"GET\t/ HTTP/1.1"), (400,)),
    Case("9112-3 a trailing space", first(b"GET / HTTP/1.1 "), (400,)),
    Case("9112-3 a leading space", first(b" GET / HTTP/1.1"), (400,)),
    Case("9112-3 a space in the target", first(b"GET /a b HTTP/1.1"), (400,)),
    Case("9112-3 a control character", first(b"GET /\x01 HTTP/1.1"), (400,)),
    Case("9112-3 a byte beyond ASCII", first(b"GET /\xe9 HTTP/1.1"), (400,)),
    Case("9112-2.2 one empty line before", b"\r\n" + head()),
    Case("9112-2.2 two empty lines before", b"\r\n\r\n" + head(), (400,)),
    Case("9112-2.2 an empty line between requests", head() + b"\r\n" + head(), (200, 200)),
    Case("9112-2.2 an empty line of two CRs", b"\r\r\n" + head(), (400,)),
    Case("9112-2.2 a space before the request line", b" " + head(), (400,)),
    Case("9112-2.1 nothing of HTTP", b"hello\r\n", (400,)),
    Case("9112-2.2 a bare LF", head().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"), (400,)),
    Case("9112-2.2 an empty line of a bare LF", b"\n" + head(), (400,)),
    Case("9112-2.2 a bare CR", first(b"GET / HTTP/1.1\rX: y"), (400,)),
    Case("9112-2.2 no HTTP but a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00", (400,)),
    Case("9112-3 no version (HTTP/0.9)", first(b"GET /"), (400,)),
    Case("9112-2.3 HTTP/1.0", head(first=b"GET / HTTP/1.0", host=None), survives=False),
    Case("9112-2.3 HTTP/1.0 with a Host", first(b"GET / HTTP/1.0"), survives=False),
    Case("9112-2.3 HTTP/1.2", first(b"GET / HTTP/1.2"), (505,)),
    Case("9112-2.3 HTTP/2.0", first(b"PRI * HTTP/2.0"), (505,)),
    Case("9112-2.3 HTTP/0.9 by name", first(b"GET / HTTP/0.9"), (505,)),
    Case("9112-2.3 lower case", first(b"GET / http/1.1"), (400,)),
    Case("9112-2.3 no minor version", first(b"GET / HTTP/1"), (400,)),
    Case("9112-2.3 a space in the version", first(b"GET / HTTP/ 1.1"), (400,)),
    Case("9112-2.3 two digits", first(b"GET / HTTP/1.10"), (400,)),
    Case("9110-9.1 an unknown method", first(b"BREW / HTTP/1.1"), (501,), survives=True),
    Case("9110-9.1 methods are case-sensitive", first(b"get / HTTP/1.1"), (501,), survives=True),
    Case("9110-9.1 a method of no token", first(b"G(T / HTTP/1.1"), (400,)),
    Case("9112-3 a method longer than any", first(b"G" * 33 + b" / HTTP/1.1"), (501,)),
    Case("9112-3 a method without end", b"G" * 200, (501,)),
    Case("9110-9.3.6 CONNECT", first(b"CONNECT x:443 HTTP/1.1"), (501,)),
    Case("9110-9.3.6 CONNECT to a path", first(b"CONNECT / HTTP/1.1"), (501,)),
    *(
        Case(
            f"9110-9.3 {method.decode()} of a path",
            first(method + b" / HTTP/1.1"),
            (405,),
            survives=True,
        )
        for method in (b"DELETE", b"PATCH", b"PUT", b"TRACE")
    ),
    Case("9110-9.3.7 OPTIONS *", first(b"OPTIONS * HTTP/1.1"), (204,)),
    Case("9110-9.3.7 OPTIONS of a path", first(b"OPTIONS / HTTP/1.1"), (204,)),
    Case("9112-3.2.4 * for another method", first(b"GET * HTTP/1.1"), (400,)),
    Case("9112-3.2.4 more than *", first(b"OPTIONS *a HTTP/1.1"), (400,)),
    Case("9112-3.2.3 an authority for another method", first(b"GET x:80 HTTP/1.1"), (400,)),
    Case("9110-15.5.5 an unknown path", first(b"GET /nothing HTTP/1.1"), (404,), survives=True),
    Case("9112-3.2.1 a query", first(b"GET /?a=%20b HTTP/1.1"), body=b"GET / a=%20b "),
    Case("3986-2.1 half an escape", first(b"GET /%2 HTTP/1.1"), (400,)),
    Case("3986-2.1 an escape of no hexadecimal digits", first(b"GET /%zz HTTP/1.1"), (400,)),
    Case(
        "3986-6 an escaped path is another path", first(b"GET /%2f HTTP/1.1"), (404,), survives=True
    ),
    Case("3986-5.2.4 dots are not resolved", first(b"GET /a/.. HTTP/1.1"), (404,), survives=True),
    Case("3986-3.3 a backslash", first(b"GET /\\ HTTP/1.1"), (400,)),
    Case("3986-3.5 a fragment", first(b"GET /#a HTTP/1.1"), (400,)),
    Case("9112-3.2.2 an absolute target", first(b"GET http://x/ HTTP/1.1"), body=b"GET /  "),
    Case("9112-3.2.2 an absolute target without a path", first(b"GET http://X HTTP/1.1")),
    Case(
        "9112-3.2.2 an absolute target with a query alone",
        first(b"GET http://x?a HTTP/1.1"),
        body=b"GET / a ",
    ),
    Case("9110-4.2.3 a scheme in capitals", first(b"GET HTTP://x/ HTTP/1.1")),
    Case(
        "9112-3.2.2 an absolute target with a port",
        head(first=b"GET http://x:80/ HTTP/1.1", host=b"x:80"),
    ),
    Case(
        "9112-3.2.2 an absolute target in HTTP/1.0",
        head(first=b"GET http://x/ HTTP/1.0", host=None),
        survives=False,
    ),
    Case(
        "9112-3.2.2 an absolute target does not spare Host",
        head(first=b"GET http://x/ HTTP/1.1", host=None),
        (400,),
    ),
    Case("9110-4.2.1 an absolute target without a host", first(b"GET http:/// HTTP/1.1"), (400,)),
    Case(
        "9110-4.2.1 its host in HTTP/1.0",
        head(first=b"GET http://u@x/ HTTP/1.0", host=None),
        (400,),
    ),
    Case("9112-3.2.2 another port than Host", first(b"GET http://x:81/ HTTP/1.1"), (400,)),
    Case("9112-3.2.2 another host than Host", first(b"GET http://y/ HTTP/1.1"), (400,)),
    Case("9110-4.2.4 user information", first(b"GET http://u@x/ HTTP/1.1"), (400,)),
    Case("9112-3.2.2 another scheme", first(b"GET ftp://x/ HTTP/1.1"), (400,)),
    Case("9112-3.2 a target that is no path", first(b"GET nothing HTTP/1.1"), (400,)),
    Case("9112-3.2 a query alone", first(b"GET ?a HTTP/1.1"), (400,)),
    Case(
        "9112-3 a target as long as may be",
        first(b"GET /%b HTTP/1.1" % (b"a" * 63)),
        (404,),
        survives=True,
    ),
    Case("9112-3 a target one longer", first(b"GET /%b HTTP/1.1" % (b"a" * 64)), (414,)),
    Case("9112-3 a target without end", b"GET /" + b"a" * 200, (414,)),
]

HOST = [
    Case("9112-3.2 no Host", head(host=None), (400,)),
    Case("9112-3.2 two Hosts", head(b"Host: x"), (400,)),
    Case("9112-3.2 an empty Host", head(host=b""), (400,)),
    Case("9112-3.2 a port", head(host=b"x:80")),
    Case("9110-7.2 an empty port", head(host=b"x:")),
    Case("9110-7.2 an address", head(host=b"[::1]:8061")),
    Case("9110-7.2 a port of letters", head(host=b"x:http"), (400,)),
    Case("9110-7.2 user information", head(host=b"u@x"), (400,)),
    Case("9110-7.2 a path", head(host=b"x/y"), (400,)),
    Case("9110-7.2 a list", head(host=b"x, y"), (400,)),
    Case("9110-7.2 a space", head(host=b"x y"), (400,)),
    Case("9110-7.2 half a bracket", head(host=b"[::1"), (400,)),
    Case("9110-7.2 names are case-insensitive", head(b"HOST: x", host=None)),
    Case("9112-3.2 two Hosts of one value in capitals", head(b"HOST: x"), (400,)),
    Case("9112-3.2 two Hosts in HTTP/1.0", head(b"Host: x", first=b"GET / HTTP/1.0"), (400,)),
    Case(
        "9112-3.2 a malformed Host in HTTP/1.0", head(first=b"GET / HTTP/1.0", host=b"x/y"), (400,)
    ),
    *(
        Case(f"9110-7.2 the Host {host.decode('latin-1')!r}", head(host=host), (400,))
        for host in (
            b"x:80:80",
            b"x:-1",
            b"x:123456",
            b":80",
            b"[::1]x",
            b"[x]",
            b"::1",
            b"http://x",
            b"x?y",
            b"x#y",
            b"x\\y",
            b"x\ty",
            b"x%2",
            b'"x"',
            b"<x>",
            b"\xe9",
        )
    ),
]

FIELDS = [
    Case("9112-5.1 a space before the colon", head(b"A : b"), (400,)),
    Case("9112-5.1 no colon", head(b"A"), (400,)),
    Case("9112-5.1 no name", head(b": b"), (400,)),
    Case("9110-5.1 a name of no token", head(b"A(: b"), (400,)),
    Case("9110-5.1 a name beyond ASCII", head(b"\xc3\xa9: b"), (400,)),
    Case("9112-5.1 no value", head(b"A:")),
    Case("9112-5.1 whitespace around a value", head(b"A: \t b \t")),
    Case("9112-5.1 no whitespace before a value", head(b"A:b")),
    Case("9112-5.1 a tab before the colon", head(b"A\t: b"), (400,)),
    Case("9110-5.1 every character of a token", head(b"!#$%&'*+-.^_`|~09azAZ: b")),
    Case("9112-2.2 two CRs end a field", head(b"A: b\r"), (400,)),
    Case("9112-2.2 two CRs end the head", head()[:-2] + b"\r\r\n", (400,)),
    Case("9110-5.5 opaque bytes", head(b"A: \x80\xff")),
    Case("9112-5.2 obsolete folding", head(b"A: b", b" c"), (400,)),
    Case("9112-5.2 folding by a tab", head(b"A: b", b"\tc"), (400,)),
    Case("9112-2.2 whitespace before the first field", head(b" A: b", host=None), (400,)),
    Case("9112-2.2 a bare LF ends a field", b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", (400,)),
    Case("9112-2.2 a bare LF ends the head", b"GET / HTTP/1.1\r\nHost: x\r\n\n", (400,)),
    *(
        Case(f"9110-5.5 the control character {byte:#04x}", head(b"A: b%cc" % byte), (400,))
        for byte in (0x00, 0x01, 0x08, 0x0B, 0x0C, 0x0D, 0x1F, 0x7F)
    ),
    Case("6585-5 as many fields as may be", head(*[b"A: b"] * 5)),
    Case("6585-5 one field more", head(*[b"A: b"] * 6), (431,)),
    Case("6585-5 a line too long", head(b"A: " + b"b" * 256), (431,)),
    Case("6585-5 lines too long together", head(*[b"A: " + b"b" * 80] * 3), (431,)),
    Case("6585-5 a line without end", head()[:-2] + b"A" * 300, (431,)),
    Case("9110-8.3 two content types", head(*[b"Content-Type: text/plain"] * 2), (400,)),
    *(
        Case(f"9110-5.3 {name.decode()} twice", head(name + b": a", name + b": a"), (400,))
        for name in (b"Authorization", b"Content-Encoding", b"Content-Type", b"Origin")
    ),
    Case("9110-5.3 a list in two fields", head(b"Accept: a/b", b"Accept: c/d")),
]

LENGTH = [
    Case("9112-6.2 a length", sized(b"5"), body=b"POST /  hello"),
    Case("9112-6.2 zero", sized(b"0", b"")),
    Case("9112-5.1 whitespace around a length", sized(b"\t5 ")),
    Case("9112-6.2 in HTTP/1.0", sized(b"5").replace(b"1.1", b"1.0"), survives=False),
    Case("9112-6.3 neither length nor coding", post()),
    Case("9110-8.6 a list", sized(b"5, 5"), (400,)),
    Case("9110-8.6 a list with an empty element", sized(b"5,"), (400,)),
    Case("9110-8.6 a number and more", sized(b"5;"), (400,)),
    Case("9110-8.6 once and once empty", post(b"Content-Length: 5", b"Content-Length:"), (400,)),
    Case("9110-8.6 twice the same", post(b"Content-Length: 5", b"Content-Length: 5"), (400,)),
    Case("9110-8.6 twice another", post(b"Content-Length: 5", b"Content-Length: 6"), (400,)),
    Case("9110-8.6 a leading zero", sized(b"005"), (400,)),
    Case("9110-8.6 a sign", sized(b"+5"), (400,)),
    Case("9110-8.6 a negative length", sized(b"-5"), (400,)),
    Case("9110-8.6 nothing", sized(b""), (400,)),
    Case("9110-8.6 hexadecimal", sized(b"0x5"), (400,)),
    Case("9110-8.6 an underscore", sized(b"1_0"), (400,)),
    Case("9110-8.6 a fraction", sized(b"5.0"), (400,)),
    Case("9110-8.6 a space inside", sized(b"1 0"), (400,)),
    Case("9110-8.6 digits of another script", sized("\u0665".encode()), (400,)),
    Case("9110-15.5.14 as long as may be", sized(b"40", b"a" * 40)),
    Case("9110-15.5.14 one byte more", sized(b"41", b"a" * 41), (413,)),
    Case("9110-15.5.14 more than any integer", sized(b"9" * 100), (413,)),
    Case("9110-9.3.1 GET with a body", head(b"Content-Length: 5") + b"hello", body=b"GET /  hello"),
]

CODING = [
    Case("9112-7.1 chunks", chunked(b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"), body=b"POST /  hello"),
    Case("9112-7.1 no chunk", chunked(b"0\r\n\r\n"), body=b"POST /  "),
    Case("9112-7.1 sizes are hexadecimal", chunked(b"0A\r\n0123456789\r\n00\r\n\r\n")),
    Case(
        "9112-7 names are case-insensitive", post(b"transfer-encoding: Chunked", body=b"0\r\n\r\n")
    ),
    Case("9112-6.1 with a length", chunked(b"0\r\n\r\n", b"Content-Length: 5"), (400,)),
    Case(
        "9112-6.1 with a length of zero before it",
        post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        (400,),
    ),
    Case(
        "9112-6.1 an unknown coding with a length",
        post(b"Transfer-Encoding: x", b"Content-Length: 5"),
        (400,),
    ),
    Case(
        "9112-6.1 in a GET",
        head(b"Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n",
        body=b"GET /  x",
    ),
    Case(
        "9112-6.1 in HTTP/1.0",
        head(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0") + b"0\r\n\r\n",
        (400,),
    ),
    *(
        Case(
            f"9112-6.3 the coding {coding.decode('latin-1')!r}",
            post(b"Transfer-Encoding:" + coding, body=b"0\r\n\r\n"),
            (status,),
        )
        for coding, status in (
            (b" gzip, chunked", 501),
            (b" gzip", 400),
            (b" identity", 400),
            (b"", 400),
            (b" chunked, gzip", 400),
            (b" chunked, chunked", 400),
            (b" xchunked", 400),
            (b" chunked;q=1", 400),
            (b' "chunked"', 400),
            (b" chunked,", 400),
            (b"\x0bchunked", 400),
        )
    ),
    Case("9112-6.1 two fields", chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked"), (400,)),
    Case("9112-6.1 two fields, one unknown", chunked(b"", b"Transfer-Encoding: gzip"), (400,)),
]

CHUNKS = [
    Case("9112-7.1.1 an extension", chunked(b'1;a;b=c;d="e \\" f"\r\nx\r\n0;z\r\n\r\n')),
    Case("9112-7.1.1 bad whitespace is removed", chunked(b"1 ; a\t= b\r\nx\r\n0\r\n\r\n")),
    *(
        Case(f"9112-7.1 the size line {line!r}", chunked(line + b"\r\nx\r\n0\r\n\r\n"), (400,))
        for line in (
            b"",
            b" 1",
            b"1 ",
            b"+1",
            b"0x1",
            b"1_0",
            b"g",
            b"1;",
            b"1;=a",
            b"1;a=",
            b'1;a="b',
            b"1;a=\x01",
            b"1;a\rb",
            b"1;a=b c",
            b"1,a",
            b"0" * 16 + b"1",
        )
    ),
    Case("9112-7.1 a bare LF after a size", chunked(b"1\nx\r\n0\r\n\r\n"), (400,)),
    Case("9112-7.1 a bare LF after data", chunked(b"1\r\nx\n0\r\n\r\n"), (400,)),
    Case("9112-7.1 more data than said", chunked(b"1\r\nxy\r\n0\r\n\r\n"), (400,)),
    Case("9112-7.1 a bare CR after data", chunked(b"1\r\nx\ry0\r\n\r\n"), (400,)),
    Case("9112-7.1 a bare LF at the end", chunked(b"0\r\n\n"), (400,)),
    Case("9112-7.1.1 an extension too long", chunked(b"1;" + b"a" * 256), (400,)),
    Case("9112-7.1 a size of 64 bits", chunked(b"F" * 16 + b"\r\n"), (413,)),
    Case("9110-15.5.14 chunks as long as may be", chunked(b"28\r\n%b\r\n0\r\n\r\n" % (b"a" * 40))),
    Case("9110-15.5.14 one byte more", chunked(b"28\r\n%b\r\n1\r\n" % (b"a" * 40)), (413,)),
    Case("9110-15.5.14 as many chunks as may be", chunked(b"1\r\nx\r\n" * 5 + b"0\r\n\r\n")),
    Case("9110-15.5.14 one chunk more", chunked(b"1\r\nx\r\n" * 6 + b"0\r\n\r\n"), (413,)),
    Case("9112-7.1.2 trailers are dropped", chunked(b"0\r\nA: b\r\nC: d\r\n\r\n")),
    Case("9112-7.1.2 a trailer without a colon", chunked(b"0\r\nA\r\n\r\n"), (400,)),
    Case("9112-7.1.2 a folded trailer", chunked(b"0\r\nA: b\r\n c\r\n\r\n"), (400,)),
    Case("9110-6.5.1 a trailer about framing", chunked(b"0\r\nContent-Length: 5\r\n\r\n"), (400,)),
    Case("9110-6.5.1 a trailer about routing", chunked(b"0\r\nHost: y\r\n\r\n"), (400,)),
    Case(
        "9110-6.5.1 a trailer about coding", chunked(b"0\r\nTransfer-Encoding: x\r\n\r\n"), (400,)
    ),
    Case("9112-7.1.2 a control character in a trailer", chunked(b"0\r\nA: \0\r\n\r\n"), (400,)),
    Case("9112-7.1.2 a bare LF ends a trailer", chunked(b"0\r\nA: b\n\r\n"), (400,)),
    Case("9112-7.1.2 a bare LF ends the trailers", chunked(b"0\r\nA: b\r\n\n"), (400,)),
    Case("6585-5 trailers too long", chunked(b"0\r\n" + b"A: %b\r\n" % (b"b" * 256)), (431,)),
    Case("6585-5 too many trailers", chunked(b"0\r\n" + b"A: b\r\n" * 7 + b"\r\n"), (431,)),
]

EXPECT = [
    Case(
        "9110-10.1.1 100 before the body",
        post(b"Expect: 100-Continue", b"Content-Length: 5", body=b"hello"),
        (100, 200),
    ),
    Case(
        "9110-10.1.1 100 before chunks",
        chunked(b"1\r\nx\r\n0\r\n\r\n", b"Expect: 100-continue"),
        (100, 200),
    ),
    Case("9110-10.1.1 no body, no 100", head(b"Expect: 100-continue")),
    Case("9110-10.1.1 another expectation", head(b"Expect: tea"), (417,)),
    Case("9110-10.1.1 one more expectation", head(b"Expect: 100-continue, tea"), (417,)),
    Case("9110-10.1.1 an empty expectation", head(b"Expect:"), (417,)),
    Case(
        "9110-10.1.1 100 after what was pipelined",
        head() + post(b"Expect: 100-continue", b"Content-Length: 1", body=b"x"),
        (200, 100, 200),
    ),
    Case(
        "9110-10.1.1 HTTP/1.0 has no 100",
        head(b"Expect: 100-continue", b"Content-Length: 5", first=b"POST / HTTP/1.0") + b"hello",
        survives=False,
    ),
    Case(
        "9110-10.1.1 no 100 for what is refused",
        head(b"Expect: 100-continue", b"Content-Length: 5", first=b"POST /nothing HTTP/1.1"),
        (404,),
    ),
    Case(
        "9110-10.1.1 no 100 for what is too long",
        post(b"Expect: 100-continue", b"Content-Length: 41"),
        (413,),
    ),
]

CONNECTION = [
    Case("9110-9.3.2 HEAD has no body", first(b"HEAD / HTTP/1.1"), body=b""),
    Case(
        "9110-9.3.2 HEAD of nothing has no body",
        first(b"HEAD /no HTTP/1.1"),
        (404,),
        body=b"",
        survives=True,
    ),
    Case(
        "9110-9.3.2 a malformed HEAD has no body",
        head(b"A : b", first=b"HEAD / HTTP/1.1"),
        (400,),
        body=b"",
    ),
    Case(
        "9112-9.3 HTTP/1.0 is not kept alive",
        head(b"Connection: keep-alive", first=b"GET / HTTP/1.0"),
        survives=False,
    ),
    Case("9110-7.6.1 unknown options", head(b"Connection: x-y, Host, Content-Length")),
    Case("9110-5.6.1 empty elements", head(b"Connection: , close,"), survives=False),
    Case(
        "9112-9.6 close in a second field",
        head(b"Connection: x", b"Connection: close"),
        survives=False,
    ),
    Case("9110-7.8 an upgrade is not taken", head(b"Connection: upgrade", b"Upgrade: h2c")),
    Case(
        "9110-7.8 an upgrade with a body",
        post(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: 5", body=b"hello"),
        body=b"POST /  hello",
    ),
    Case(
        "9110-7.8 an upgrade in HTTP/1.0",
        head(b"Connection: upgrade", b"Upgrade: websocket", first=b"GET / HTTP/1.0"),
        survives=False,
    ),
    Case("9112-9.6 close", head(b"Connection: close"), survives=False),
    Case("9112-9.6 close among others", head(b"Connection: keep-alive, Close"), survives=False),
    Case("9112-9.3 pipelining", head() * 3, (200, 200, 200)),
    Case("9112-9.3 pipelined bodies", sized(b"5") + chunked(b"1\r\nx\r\n0\r\n\r\n"), (200, 200)),
    Case("9112-9.3 a refusal ends the pipeline", head() + head(b"A : b") + head(), (200, 400)),
    Case("9112-6.3 an unread body ends it", sized(b"5").replace(b"/ ", b"/no "), (404,)),
]

CASES = [
    *REQUEST_LINE,
    *HOST,
    *FIELDS,
    *LENGTH,
    *CODING,
    *CHUNKS,
    *EXPECT,
    *CONNECTION,
]
