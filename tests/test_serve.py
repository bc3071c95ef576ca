"""`skiff MODEL_FOLDER` as its user sees it: a process, its lines, its exit code, a real socket."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from model_tools.export import export
from tests.model_tools.tiny_gguf import TinyLlama

ROUTE = "/api/v1/continue_from_raw_prompt"
HANGS = (
    "-P",
    "-c",
    """
import threading
from server.model.cpu.decoder import CpuDecoder
CpuDecoder.decode = lambda *_, **__: threading.Event().wait()
from server.cli import main
main()
""",
)
"""The command, with an engine that hangs when it decodes."""
FAILS = (
    "-P",
    "-c",
    """
from server.model.cpu.decoder import CpuDecoder
def fail(*arguments):
    raise RuntimeError("a fault of the model's")
CpuDecoder.decode = fail
from server.cli import main
main()
""",
)
"""The command, with a model that fails when it decodes."""
STALLED = """
reader, writer = os.pipe()
os.set_inheritable(reader, True)
os.set_blocking(writer, False)
try:
    while True:
        os.write(writer, bytes(4096))
except BlockingIOError:
    os.set_blocking(writer, True)
os.dup2(writer, 2)
"""
"""A stderr that is full and that nobody reads."""
SECONDS = 30
"""Longer than anything takes on a busy machine; nothing here waits for time to pass."""
SKIFF = ("-P", "-m", "server")
JSON = {"Content-Type": "application/json"}
ENDLESS = ("--context", "1000000", "--ignore-eos")


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[str]
    start: list[str]
    """The lines before the server was ready."""
    port: int
    """0 for a UNIX socket."""
    curl: str

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        connection.connect()
        return connection

    def wait_until_closed(self) -> None:
        """Wait until nobody can connect any more."""
        with suppress(ConnectionRefusedError, ConnectionResetError):
            while True:
                self.connect().close()

    @contextmanager
    def ask(self, prompt: str, max_tokens: int) -> Iterator[http.client.HTTPResponse]:
        with closing(self.connect()) as connection:
            connection.request("POST", ROUTE, body(prompt, max_tokens), JSON)
            with connection.getresponse() as response:
                yield response

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Exit code and stderr after a signal."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, errors


def with_stderr(made: str, program: Sequence[str] = SKIFF) -> Sequence[str]:
    """The command, started after `made`, in Python, has changed its stderr."""
    begin = f"os.execv(sys.executable, [sys.executable, *{program!r}, *sys.argv[1:]])"
    return ("-c", f"import os, sys\n{made}\n{begin}")


def body(prompt: str, max_tokens: int) -> str:
    return json.dumps({"raw_prompt": prompt, "max_tokens": max_tokens})


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, str]:
    """Status and body."""
    connection.request("GET", path)
    with connection.getresponse() as response:
        return response.status, response.read().decode()


def error_of(line: bytes) -> int:
    """The code in an Error line."""
    code: int = json.loads(line)["Error"]["error"]["code"]
    return code


def command(
    *arguments: str | Path, program: Sequence[str] = SKIFF, **environment: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@contextmanager
def serving(
    *arguments: str | Path, program: Sequence[str] = SKIFF, **environment: str
) -> Iterator[Running]:
    """The command, once it is ready, on a free port."""
    environment = {"SKIFF_INFERENCE_ADDRESS": "127.0.0.1:0", **environment}
    arguments = (*arguments, "--threads", "1")
    with command(*arguments, program=program, **environment) as process:
        try:
            assert process.stdout is not None
            start = []
            while not (line := process.stdout.readline()).startswith("Ready at "):
                assert line, "ended before it was ready"
                start.append(line)
            end = line.strip().rpartition(":")[2]
            port = int(end) if end.isdecimal() else 0
            curl = process.stdout.readline().strip()
            yield Running(process, start, port, curl)
        finally:
            process.kill()


def refused(*arguments: str | Path, **environment: str) -> str:
    """The error of a command that cannot start: one line, and nothing else."""
    environment = {"SKIFF_INFERENCE_ADDRESS": "127.0.0.1:0", **environment}
    process = command(*arguments, **environment)
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode not in (0, None)
    assert output == ""
    assert errors.count("\n") == 1, errors
    assert errors.startswith("skiff: ")
    return errors


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a small random model with a long context."""
    place = tmp_path_factory.mktemp("tiny")
    source = TinyLlama(context_length=1 << 20).write(place / "tiny.gguf")
    export(source, place / "folder", verify=False)
    return place / "folder"


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """A folder that looks like a model until its graph is opened."""
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 100}')
    tokenizer = {"model": {"type": "BPE", "vocab": {}, "merges": []}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    return tmp_path


def test_a_folder_may_have_any_name(tiny: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b'a "name"\xff')
    shutil.copytree(tiny, odd)
    with serving(odd) as server, closing(server.connect()) as connection:
        status, said = get(connection, "/metrics")
    assert status == 200
    assert r'model="a \"name\"\\xff"' in said


@pytest.mark.parametrize("flags", [[], ["--speculate", "8"]])
def test_a_prompt_is_continued_line_by_line(tiny: Path, flags: list[str]) -> None:
    with serving(tiny, *flags) as server, server.ask("the answer", max_tokens=20) as response:
        assert response.status == 200
        assert response.getheader("content-type") == "application/json"
        assert response.getheader("transfer-encoding") == "chunked"
        lines = [json.loads(line)["Response"] for line in response]
    *tokens, done = [line["response"]["GeneratedToken"] for line in lines]
    assert tokens
    assert all(list(token) == ["Token"] for token in tokens)
    assert done == "Done"
    assert len({line["request_id"] for line in lines}) == 1


@pytest.mark.parametrize(
    ("mode", "typical"), [(GenerationMode.POSITIVE, 200), (GenerationMode.NEGATIVE, 400)]
)
def test_nothing_that_the_document_tells_of_makes_a_fault(
    tiny: Path, mode: GenerationMode, typical: int
) -> None:
    statuses = set()
    with serving(tiny, "--context", "32") as server:
        document = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
        operations = [document[path][method] for path in document for method in document[path]]

        @settings(max_examples=60)
        @given(st.one_of([operation.as_strategy(mode) for operation in operations]))
        def ask(case: Case[Any]) -> None:
            statuses.add(case.call(timeout=SECONDS).status_code)

        ask()
        code, errors = server.end(signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in errors
    assert typical in statuses
    assert max(statuses) < 500


def test_each_request_is_a_line_of_the_log_without_its_text(tiny: Path) -> None:
    with serving(tiny, "--log-format", "json") as server:
        with server.ask("the answer", max_tokens=2) as response:
            request_id = json.loads(response.read().splitlines()[0])["Response"]["request_id"]
        code, errors = server.end(signal.SIGTERM)
    assert code == 0
    assert "answer" not in errors
    [ended] = [line for line in map(json.loads, errors.splitlines()) if "request_id" in line]
    assert ended["request_id"] == request_id
    assert (ended["finish_reason"], ended["new_tokens"]) == ("length", 2)


def test_who_does_not_read_stderr_holds_nobody_up(tiny: Path) -> None:
    with serving(tiny, program=with_stderr(STALLED)) as server:
        for _ in range(3):
            with server.ask("the answer", max_tokens=2) as response:
                assert b'"Done"' in response.read()
        assert server.end(signal.SIGTERM)[0] == 0


def test_a_lost_engine_ends_the_process_though_nobody_reads_stderr(tiny: Path) -> None:
    program = with_stderr(STALLED, HANGS)
    with (
        serving(tiny, "--engine-call-timeout", "0.5", program=program) as server,
        server.ask("the answer", max_tokens=9) as response,
    ):
        assert error_of(response.readlines()[-1]) == 500
        assert server.process.wait(SECONDS) == 1


@pytest.mark.parametrize(
    "stderr",
    [
        "os.close(2)",
        "os.dup2(os.pipe()[1], 2)",  # whose reader does not outlive the beginning
        pytest.param(
            "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's"),
        ),
    ],
)
def test_where_nothing_can_be_logged_it_serves(tiny: Path, stderr: str) -> None:
    with serving(tiny, program=with_stderr(stderr)) as server:
        with server.ask("the answer", max_tokens=2) as response:
            assert b'"Done"' in response.read()
        assert server.end(signal.SIGTERM)[0] == 0


def in_a_shell(curl: str, **environment: str) -> bytes:
    """The output of a curl line, run as it stands."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    return subprocess.run(
        ["/bin/sh", "-c", f"{curl} --silent --fail"],
        capture_output=True,
        timeout=SECONDS,
        check=True,
        env={**os.environ, **environment},
    ).stdout


def test_the_curl_line_works_as_it_stands(tiny: Path) -> None:
    with serving(tiny) as server:
        assert f"http://127.0.0.1:{server.port}{ROUTE}" in server.curl
        answer = in_a_shell(server.curl)
    assert json.loads(answer.splitlines()[-1])["Response"]["response"] == {"GeneratedToken": "Done"}


def test_who_shows_a_key_is_answered(tiny: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret  # of this test\n")
    flags = ["--api-key-file", str(keys), "--cors-origin", "http://page", "--allowed-host", "box"]
    with serving(tiny, *flags) as server:
        assert '-H "Authorization: Bearer $KEY"' in server.curl
        assert "secret" not in server.curl
        for path, fields, status in (
            ("/health", {"Host": "box"}, 200),
            ("/health", {"Host": "other"}, 421),
            ("/openapi.json", {}, 401),
            ("/openapi.json", {"Authorization": "Bearer wrong"}, 401),
            ("/openapi.json", {"Authorization": "Bearer secret", "Origin": "http://page"}, 200),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
            with closing(connection):
                connection.request("GET", path, headers=fields)
                response = connection.getresponse()
                assert response.status == status
                allowed = response.getheader("access-control-allow-origin")
                assert allowed == fields.get("Origin")
        assert server.end(signal.SIGTERM) == (0, "")


def test_the_curl_line_works_with_a_key_over_tls_and_a_unix_socket(
    tiny: Path, tmp_path: Path
) -> None:
    issued = trustme.CA().issue_cert("skiff.example")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate")
    (tmp_path / "keys").write_text("secret")
    access = [f"--tls-{name}={tmp_path / name}" for name in ("certificate", "key")]
    access.append(f"--api-key-file={tmp_path / 'keys'}")
    with serving(tiny, *access) as server:
        assert f"https://127.0.0.1:{server.port}{ROUTE}" in server.curl
        assert b'"Done"' in in_a_shell(server.curl, KEY="secret")
        with pytest.raises(subprocess.CalledProcessError):
            in_a_shell(server.curl, KEY="other")
    path = tmp_path / "a socket"
    with serving(tiny, *access, SKIFF_INFERENCE_ADDRESS=f"unix:{path}") as server:
        assert b'"Done"' in in_a_shell(server.curl, KEY="secret")
        assert server.end(signal.SIGTERM)[0] == 0
    assert not path.exists()


def test_the_start_lines_say_what_holds(tiny: Path) -> None:
    flags = ["--slots", "3", "--context", "512", "--temperature", "0.5", "--ignore-eos"]
    told = {"SKIFF_TOP_K": "7", "SKIFF_TEMPERATURE": "0.9", "SKIFF_SPECULATE": "5"}
    with serving(tiny, *flags, **told) as server:
        said = "".join(server.start)
    assert str(tiny) in said
    assert "slots 3, context 512 tokens" in said
    assert "MiB" in said
    assert "device cpu: the folder is exported for the CPU\n" in said
    assert "speculate 5, ignore-eos on" in said
    assert "temperature 0.5, top-k 7, top-p 1" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_idle_server_ends_well_at_a_signal(tiny: Path, number: signal.Signals) -> None:
    with serving(tiny) as server:
        assert server.end(number) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_at_a_signal_a_busy_server_gives_what_it_has_begun(
    tiny: Path, number: signal.Signals
) -> None:
    count = 2_000
    with (
        serving(tiny, "--context", "100000", "--ignore-eos") as server,
        server.ask("the answer", max_tokens=count) as response,
    ):
        response.readline()
        server.process.send_signal(number)
        last = json.loads(response.readlines()[-1])
        assert last["Response"]["response"] == {"GeneratedToken": "Done"}
        _, errors = server.process.communicate(timeout=SECONDS)
        assert server.process.returncode == 0
        assert errors.count("\n") == 2  # that it stops, and that the request ended
        assert "stopping: 1 requests have up to 30 s" in errors


def test_what_takes_longer_than_stopping_may_is_told_and_no_client_holds_it_up(tiny: Path) -> None:
    with (
        serving(tiny, *ENDLESS, "--drain-timeout", "1") as server,
        closing(server.connect()) as idle,
        closing(server.connect()) as asking,
        closing(server.connect()) as late,
        closing(server.connect()) as half,
        server.ask("the answer", max_tokens=1_000_000) as response,
    ):
        for connection in (idle, asking, late):
            assert get(connection, "/ready") == (200, "READY")
        half.sock.sendall(f"POST {ROUTE} HTTP/1.1\r\nHost: localhost\r\n".encode())
        response.readline()
        server.process.send_signal(signal.SIGTERM)
        while (readiness := get(asking, "/ready"))[0] == 200:
            pass
        assert readiness == (503, "the server is shutting down\n")
        server.wait_until_closed()
        late.request("POST", ROUTE, body("late", 1), JSON)
        with late.getresponse() as answer:
            assert answer.getheader("connection") == "close"
            assert (answer.status, error_of(answer.read())) == (200, 503)
        assert error_of(response.readlines()[-1]) == 503
        told = b"".join(iter(lambda: half.sock.recv(4096), b""))
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nConnection: close\r\n" in told
        server.process.communicate(timeout=SECONDS)
        assert server.process.returncode == 0


def test_a_second_signal_ends_at_once_and_what_is_cut_looks_cut(tiny: Path) -> None:
    with (
        serving(tiny, *ENDLESS) as server,
        closing(server.connect()) as kept,
        server.ask("the answer", max_tokens=1_000_000) as response,
    ):
        response.readline()
        server.process.send_signal(signal.SIGTERM)
        while get(kept, "/ready")[0] == 200:
            pass
        assert server.end(signal.SIGTERM)[0] == -signal.SIGTERM
        with pytest.raises(http.client.IncompleteRead):
            response.read()


def test_an_engine_that_hangs_is_told_of_and_ends_the_process(tiny: Path) -> None:
    with (
        serving(tiny, "--engine-call-timeout", "0.5", program=HANGS) as server,
        server.ask("the answer", max_tokens=9) as response,
    ):
        assert error_of(response.readlines()[-1]) == 500
        _, errors = server.process.communicate(timeout=SECONDS)
        assert server.process.returncode == 1
        assert "a call into the model took more than 0.5 s" in errors
        assert errors.endswith("CRITICAL server.app: the process ends: its engine is lost\n")


def test_the_log_of_a_fault_has_nothing_that_the_client_wrote(tiny: Path) -> None:
    told = "confidential"
    with serving(tiny, program=FAILS) as server:
        with server.ask(f"{told}\n2026 ERROR \x1b[31m\x07", max_tokens=9) as response:
            assert error_of(response.readlines()[-1]) == 500
        for sent in (
            f"GET /\x1b{told} HTTP/1.1\r\n\r\n",
            f"POST /{told} HTTP/1.1\r\nHost: \x07\r\n",
        ):
            with closing(server.connect()) as connection:
                connection.sock.sendall(sent.encode() + b"\r\n")
                assert connection.sock.recv(99).startswith(b"HTTP/1.1 400 ")
        code, errors = server.end(signal.SIGTERM)
    assert code == 0
    assert "Traceback" in errors
    assert told not in errors
    assert "2026 ERROR" not in errors
    assert all(letter.isprintable() for letter in errors if letter != "\n")


def test_an_engine_that_hangs_does_not_keep_the_process_from_stopping(tiny: Path) -> None:
    with (
        serving(tiny, "--drain-timeout", "0.1", program=HANGS) as server,
        server.ask("the answer", max_tokens=9) as response,
    ):
        response.readline()
        server.process.send_signal(signal.SIGTERM)
        assert error_of(response.readlines()[-1]) == 503
        server.process.communicate(timeout=SECONDS)
        assert server.process.returncode == 0


def test_a_server_whose_first_lines_nobody_reads_on_ends_quietly(tiny: Path) -> None:
    """As in `skiff MODEL_FOLDER | head -1`."""
    program = """
import sys
from server.model.cpu.decoder import CpuDecoder
CpuDecoder.warm_up = lambda self: sys.stdin.readline()
from server.cli import main
main()
"""
    place = {"SKIFF_INFERENCE_ADDRESS": "127.0.0.1:0"}
    with command(tiny, program=("-P", "-c", program), **place) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("skiff ")
        process.stdout.close()
        _, errors = process.communicate("\n", timeout=SECONDS)
    assert (process.returncode, errors) == (-signal.SIGPIPE, "")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize("buffering", ["", "1"])
def test_a_server_whose_first_lines_find_no_room_is_one_line(tiny: Path, buffering: str) -> None:
    program = """
import os
os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
from server.cli import main
main()
"""
    variables = {"SKIFF_INFERENCE_ADDRESS": "127.0.0.1:0", "PYTHONUNBUFFERED": buffering}
    with command(tiny, program=("-P", "-c", program), **variables) as process:
        _, errors = process.communicate(timeout=SECONDS)
    said = "skiff: cannot write to stdout: No space left on device\n"
    assert (process.returncode, errors) == (1, said)


def test_the_log_comes_before_the_line_that_ends_the_program(tiny: Path) -> None:
    program = """
import logging
from server.errors import StartError
from server.model.cpu.decoder import CpuDecoder
def fail(decoder):
    logging.getLogger("model").warning("the log")
    raise StartError("the end")
CpuDecoder.warm_up = fail
from server.cli import main
main()
"""
    place = {"SKIFF_INFERENCE_ADDRESS": "127.0.0.1:0"}
    with command(tiny, program=("-P", "-c", program), **place) as process:
        _, errors = process.communicate(timeout=SECONDS)
    logged, end = errors.splitlines()
    assert logged.endswith("the log")
    assert end == "skiff: the end"


def test_systemd_gives_the_socket_and_hears_how_it_is(tiny: Path, tmp_path: Path) -> None:
    program = """
import os, socket
opened = socket.create_server(("127.0.0.1", 0))
os.dup2(opened.fileno(), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
from server.cli import main
main()
"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(SECONDS)
        manager.bind(str(tmp_path / "notify"))
        variables = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "60000000"}
        with serving(tiny, program=("-P", "-c", program), **variables) as server:
            ready = f"READY=1\nSTATUS=Ready at http://127.0.0.1:{server.port}"
            assert manager.recv(4096).decode() == ready
            assert manager.recv(4096) == b"WATCHDOG=1"
            with server.ask("the answer", max_tokens=1) as response:
                assert response.status == 200
                response.read()
            assert server.end(signal.SIGTERM)[0] == 0
            assert manager.recv(4096) == b"STOPPING=1"


def test_until_the_model_is_loaded_it_lives_and_is_not_ready(tiny: Path) -> None:
    program = """
import os, socket, sys
opened = socket.create_server(("127.0.0.1", 0))
os.dup2(opened.fileno(), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
print(opened.getsockname()[1], flush=True)
from server.model.cpu.decoder import CpuDecoder
load = CpuDecoder.__init__
CpuDecoder.__init__ = lambda *a, **k: sys.stdin.readline() and load(*a, **k)
from server.cli import main
main()
"""
    with command(tiny, program=("-P", "-c", program)) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        server = Running(process, [], int(process.stdout.readline()), "")
        with closing(server.connect()) as connection:
            assert get(connection, "/ready") == (503, "the model is being loaded\n")
            assert get(connection, "/health") == (200, "OK")
            with closing(server.connect()) as asking:
                asking.request("POST", ROUTE, body("the answer", max_tokens=1), JSON)
                assert get(connection, "/ready")[0] == 503
                print(file=process.stdin, flush=True)
                with asking.getresponse() as response:
                    assert b"Response" in response.readline()
            while not process.stdout.readline().startswith("Ready at "):
                pass
            assert get(connection, "/ready") == (200, "READY")
        assert server.end(signal.SIGTERM)[0] == 0


def test_garbage_is_collected_once_it_is_ready(tiny: Path) -> None:
    program = """
import gc
from server import startup
from server.__main__ import main
assert not gc.isenabled()
end = startup.end
startup.end = lambda: (end(), print("collects:", gc.isenabled(), "frozen:", gc.get_freeze_count()))
main()
"""
    with serving(tiny, program=("-P", "-c", program)) as server:
        [line] = [line for line in server.start if line.startswith("collects: True frozen: ")]
        assert int(line.split()[-1]) > 10_000


def test_two_servers_need_two_addresses(tiny: Path, stub: Path) -> None:
    with serving(tiny) as server:
        address = f"127.0.0.1:{server.port}"
        assert address in refused(stub, "--inference-address", address)


def test_a_bad_address_is_one_line(stub: Path) -> None:
    assert "nowhere.invalid:80" in refused(stub, "--inference-address", "nowhere.invalid:80")


def test_what_is_no_model_is_one_line(tmp_path: Path, stub: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused(tmp_path / "empty")
    assert "model.onnx" in refused(stub, "--inference-address", "127.0.0.1:0")


def test_bad_values_are_one_line(stub: Path) -> None:
    assert "--slots must be" in refused(stub, "--slots", "none")
    assert "SKIFF_SLOTS must be" in refused(stub, SKIFF_SLOTS="none")
    assert "--context 101 is more than" in refused(stub, "--context", "101")
    assert "./inspect" in refused("inspect")
    assert "go together" in refused(stub, "--tls-key", stub)
    assert "cannot read the API keys" in refused(stub, "--api-key-file", stub / "nothing")


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not limit address space")
def test_more_memory_than_there_is_is_one_line(tiny: Path) -> None:
    limited = [
        "sh",
        "-c",
        'ulimit -v 16000000 && exec "$@"',
        "sh",
        sys.executable,
        *SKIFF,
        str(tiny),
    ]
    size = ["--slots", "1024", "--context", str(1 << 20), "--inference-address", "127.0.0.1:0"]
    run = subprocess.run(
        [*limited, *size], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert run.returncode != 0
    assert run.stderr.count("\n") == 1
    assert "1024 slots of 1048576 tokens" in run.stderr


def test_without_a_runtime_the_line_names_the_extras(stub: Path) -> None:
    program = "import sys; sys.modules['onnxruntime'] = None; from server.cli import main; main()"
    arguments = [sys.executable, "-c", program, str(stub), "--inference-address", "127.0.0.1:0"]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert run.returncode != 0
    assert run.stderr.count("\n") == 1
    assert "skiff-llm[cpu]" in run.stderr


def test_a_device_that_cannot_be_had_is_one_line(stub: Path) -> None:
    """Never a silent run on the CPU."""
    assert "cuda:0 is not available" in refused(stub, "--device", "cuda")


def test_a_folder_for_cuda_is_served_on_the_cpu_where_that_is_able(tmp_path: Path) -> None:
    folder = cuda_folder(tmp_path, "fp16")
    with serving(folder) as server:
        said = "".join(server.start)
        assert b'"Done"' in in_a_shell(server.curl)
    assert "device cpu: cuda:0 is not available: onnxruntime" in said
    assert "cuda:0 is not available" in refused(folder, "--device", "cuda")


def test_a_folder_that_runs_nowhere_here_is_one_line_with_both_reasons(tmp_path: Path) -> None:
    said = refused(cuda_folder(tmp_path, "bf16"))
    for words in ("cuda:0 is not available", "on the CPU", "skiff-export --target cpu"):
        assert words in said


def cuda_folder(place: Path, weights: str) -> Path:
    gguf = TinyLlama().write(place / "tiny.gguf")
    export(gguf, place / "folder", target="cuda", weights=weights, verify=False)
    return place / "folder"


def test_a_listener_is_there_before_the_model(stub: Path) -> None:
    """A port in use is reported before the graph is opened, which may take long."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused(stub, "--inference-address", f"127.0.0.1:{port}")
    assert "listen" in said
