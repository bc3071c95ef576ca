"""A server on a real socket that speaks every dialect: `word` so many times, then the end."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Asked = list[tuple[str, dict[str, Any]]]
"""Paths and bodies, in the order in which they came."""


def paddler(count: int, v4: bool) -> Iterator[bytes]:
    token, done = ("ContentToken", {"Done": {"usage": {"content_tokens": count}}})
    for _ in range(count):
        yield _line({"GeneratedToken": {token if v4 else "Token": "word"}})
    yield _line({"GeneratedToken": done if v4 else "Done"})


def openai(count: int, chat: bool) -> Iterator[bytes]:
    """Two tokens in each chunk of text, as from servers that speculate."""
    text = {"delta": {"content": "word word"}} if chat else {"text": "word word"}
    for _ in range((count + 1) // 2):
        yield _event({"choices": [text]})
    yield _event({"choices": [], "usage": {"completion_tokens": count}})
    yield b"data: [DONE]\n\n"


def llama(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield _event({"content": "word", "tokens": [7], "stop": False})
    yield _event({"content": "", "tokens": [], "stop": True, "tokens_predicted": count})


def _line(response: object) -> bytes:
    envelope = {"Response": {"request_id": "1", "response": response}}
    return json.dumps(envelope).encode() + b"\n"


def _event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


@contextmanager
def fake_server(*, v4: bool = False, busy_after: int | None = None) -> Iterator[tuple[str, Asked]]:
    """Yields its URL and the requests that it gets. Refuses all after the first `busy_after`."""
    asked: Asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer([b"asked_total %d\n" % len(asked)])

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            if busy_after is not None and len(asked) > busy_after:
                self.send_response(503)
                self.send_header("Content-Length", "8")
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(b"too busy")
                return
            self._answer(self._pieces(body))

        def _pieces(self, body: dict[str, Any]) -> Iterator[bytes]:
            match self.path:
                case "/completion":
                    return llama(body["n_predict"])
                case "/v1/completions":
                    return openai(body["max_tokens"], chat=False)
                case "/v1/chat/completions":
                    return openai(body["max_completion_tokens"], chat=True)
            return paddler(body["max_tokens"], v4)

        def _answer(self, pieces: Iterator[bytes] | list[bytes]) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            for piece in [*pieces, b""]:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()
