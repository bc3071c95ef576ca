"""`skiff-bench serve` against servers on real sockets, Skiff among them."""

import json
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from model_tools.bench import cli
from model_tools.bench.serve.dialect import DIALECTS, TO_THE_LIMIT, Dialect, Settings
from model_tools.bench.serve.load import ClosedLoop, Send, T
from model_tools.bench.serve.prometheus import changed, parse, quotients
from model_tools.bench.serve.prompts import Lengths, Mix, Request
from model_tools.bench.serve.reply import Outcome, Reply
from model_tools.bench.serve.result import RATIOS, Result
from model_tools.bench.serve.session import Plan, run
from model_tools.bench.serve.tables import ratios_table
from model_tools.bench.serve.target import Target
from tests.model.tiny_folder import tiny_folder
from tests.model_tools.bench.fake_server import fake_server
from tests.test_serve import serving

# Without a seed the prompts are new each time, and to some of them a random model answers with
# hardly any text, which is not an answer of as many tokens as asked for.
SHORT = [
    *["--words", "5", "--new-tokens", "4", "--requests", "6", "--warm-up", "1"],
    *["--ignore-eos", "--seed", "1"],
]


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    cli.main(["serve", *arguments, "-o", "json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("paddler", "/api/v1/continue_from_raw_prompt"),
        ("openai", "/v1/completions"),
        ("openai-chat", "/v1/chat/completions"),
        ("llama", "/completion"),
    ],
)
def test_a_server_is_measured_in_its_dialect(
    dialect: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_server() as (url, asked):
        document = bench(capsys, url, "--dialect", dialect, "--concurrency", "1,3", *SHORT)
    assert len(asked) == 1 + 2 * 6
    assert {each for each, _ in asked} == {path}
    told = document["header"]["answers"].endswith("temperature 0")
    assert told == all(body.get("temperature") == 0 for _, body in asked)
    first, second = document["tables"]["requests"]
    assert (first["load"], second["load"]) == ("1 client", "3 clients")
    for row in (first, second):
        assert (row["complete"], row["tokens"], row["first reason"]) == (6, 24, None)
    kinds = [row["figure"] for row in document["tables"]["latency in milliseconds"]]
    assert kinds.count("time to first token") == 2
    [metric] = document["tables"]["the servers' own metrics"]
    assert (metric["metric"], metric["difference"]) == ("asked_total", 12)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_a_dialect_says_what_it_asks_for(dialect: Dialect) -> None:
    request = Request("a b", max_tokens=9, leaves_after=None)
    plain = Settings(model="a", temperature=0, ignore_eos=False, cache_prompt=False)
    other = Settings(model="b", temperature=1, ignore_eos=True, cache_prompt=True)
    asked_for = {
        name
        for name, value in asdict(other).items()
        if dialect.body(request, replace(plain, **{name: value})) != dialect.body(request, plain)
    }
    assert asked_for == dialect.asks_for


def test_paddlers_newer_envelope_needs_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_server(v4=True) as (url, _):
        [row] = bench(capsys, url, *SHORT)["tables"]["requests"]
    assert (row["complete"], row["tokens"]) == (6, 24)


def test_two_servers_get_the_same_prompts_in_turns(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_server() as (url, ours), fake_server() as (other, theirs):
        flags = ["--vs", other, "--vs-dialect", "llama", "--pairs", "2", *SHORT]
        document = bench(capsys, url, "--name", "a", "--vs-name", "b", *flags)
    prompts = [body["raw_prompt"] for _, body in ours]
    assert prompts == [body["prompt"] for _, body in theirs]
    assert len(set(prompts)) == 1 + 2 * 6
    [row] = document["tables"]["a / b: median of 2 pairs"]
    assert row["load"] == "1 client"


class Late(ClosedLoop):
    """Its clients are held up for 100 seconds."""

    async def run(self, requests: Sequence[T], send: Send[T], seed: str) -> None:
        for request in requests:
            await send(request, time.perf_counter() - 100)


def test_a_request_that_is_held_up_counts_from_when_it_was_due() -> None:
    with fake_server() as (url, _):
        plan = Plan(
            targets=(Target.of(url, DIALECTS["paddler"]),),
            loads=(Late(1),),
            mix=Mix(Lengths(5, 5), Lengths(4, 4), shared_words=0, leaving=0),
            settings=TO_THE_LIMIT,
            requests=2,
            rounds=1,
            warm_up=1,
            timeout=30,
            seed=1,
        )
        [result] = run(plan, lambda: None).results
    assert [reply.outcome for reply in result.replies] == [Outcome.COMPLETE] * 2
    assert all(reply.times[0] > 100 for reply in result.replies)


def test_refusals_are_counted_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_server(busy_after=4) as (url, _):
        [row] = bench(capsys, url, *SHORT)["tables"]["requests"]
    assert (row["complete"], row["refused"], row["failed"]) == (3, 3, 0)
    assert row["first reason"] == "503: too busy"


def test_a_run_without_an_answer_fails_once_its_tables_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "run.json"
    with (
        fake_server(busy_after=0) as (url, _),
        pytest.raises(SystemExit, match=r"^skiff-bench: no request was answered: 503: too busy$"),
    ):
        bench(capsys, url, *SHORT, "--warm-up", "0", "--save", str(saved))
    [row] = json.loads(capsys.readouterr().out)["tables"]["requests"]
    assert (row["refused"], row["first reason"]) == (6, "503: too busy")
    assert not saved.exists()


def test_skiff_is_measured_and_clients_may_leave(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_folder(tmp_path / "tiny", "int8")
    with serving(folder, "--ignore-eos") as server:
        url = f"http://127.0.0.1:{server.port}"
        flags = [*SHORT, "--rate", "500", "--leave", "0.5", "--new-tokens", "30"]
        document = bench(capsys, url, *flags)
    tables, told = document["tables"], document["header"][f"server 127.0.0.1:{server.port}"]
    assert "model model, device cpu, threads " in told
    [row] = tables["requests"]
    assert row["complete"] + row["left"] == 6
    assert row["complete"] * 30 <= row["tokens"] <= 6 * 30
    own = {row["metric"]: row["difference"] for row in tables["the servers' own metrics"]}
    assert own['skiff_request_success_total{finished_reason="length"}'] >= row["complete"]
    # A step is counted once its tokens are told: the warm-up's last one may be among these, and
    # the last one of these not.
    assert row["tokens"] - 6 <= own["skiff_generation_tokens_total"] <= 6 * 30 + 1
    assert own["skiff_time_to_first_token_seconds_mean"] > 0
    assert 0 < own["decode steps: share inside the runtime"] < 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_that_is_not_there_is_one_line(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(SystemExit, match=r"^skiff-bench: .*first request: Connection refused$"):
        cli.main(["serve", f"http://{host}:{port}"])


def test_a_server_that_nobody_knows_is_one_line() -> None:
    name = ".".join(["a" * 60] * 5)  # too long to be asked for, so that no network is
    with pytest.raises(socket.gaierror) as unknown:
        socket.getaddrinfo(name, 80)
    reason = re.escape(unknown.value.strerror or "")
    with pytest.raises(SystemExit, match=rf"^skiff-bench: .*first request: {reason}$"):
        cli.main(["serve", f"http://{name}"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["ftp://localhost"], "must be http://HOST:PORT"),
        (["localhost:8061"], "must be http://HOST:PORT"),
        (["http://localhost:99999"], "[Pp]ort"),
        (["http://127.0.0..1:9"], "must be http://HOST:PORT"),
        (["http://a/b c"], "must be http://HOST:PORT"),
        (["http://a/\u00e4"], "must be http://HOST:PORT"),
        (["http://a", "--vs", "http://a"], "both servers would be called a"),
        (["http://a", "--vs-dialect", "llama"], "--vs-dialect: there is no second server"),
        (["http://a", "--vs-name", "b"], "--vs-name: there is no second server"),
        (["http://a", "--api-key-file", "/nowhere"], "cannot read the API keys: /nowhere"),
        (["http://a", "--temperature", "1"], "--temperature: only --dialect openai or"),
        (["http://a", "--model", "b"], "--model: only --dialect openai or openai-chat can"),
        (["http://a", "--dialect", "openai", "--cache-prompt"], "--cache-prompt: only .* llama"),
        (["http://a", "--words", "9-20", "--shared", "10"], "of 9 to 20 words cannot share 10"),
        (["http://a", "--words", "9-3"], "must be N or LOW-HIGH"),
        (["http://a", "--words", "9-"], "--words: must be an integer from 1 to 2147483647, not ''"),
        (["http://a", "--leave", "2"], "must be a number of at least 0 and at most 1"),
        (["http://a", "--temperature", "nan"], "must be a number of at least 0"),
        (["http://a", "--requests", "1" * 25], "must be an integer from 1"),
        (["http://a", "--rate", "0"], "must be a number above 0"),
        (["http://a", "--rate", "2,1,2.0"], "--rate: must name each value once"),
        (["http://a", "--concurrency", "1,1"], "--concurrency: must name each value once"),
        (["http://a", "--concurrency", "0"], "--concurrency: must be an integer from 1"),
        (["http://a", "--rate", "1", "--concurrency", "1"], "not allowed with"),
    ],
)
def test_a_bad_command_line_is_one_line(arguments: list[str], reason: str) -> None:
    with pytest.raises(SystemExit, match=rf"^skiff-bench: [^\n]*{reason}[^\n]*$"):
        cli.main(["serve", *arguments])


def test_a_server_may_speak_tls_and_ask_for_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate")
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    flags = [f"--tls-{name}={tmp_path / name}" for name in ("certificate", "key")]
    flags += ["--ignore-eos", "--api-key-file", str(keys)]
    with serving(tiny_folder(tmp_path / "model", "int8"), *flags) as server:
        asked = [f"https://127.0.0.1:{server.port}", *SHORT]
        with pytest.raises(SystemExit, match="no answer to a first request: TLS: unable to get"):
            bench(capsys, *asked)
        authority.cert_pem.write_to_path(tmp_path / "authority")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority"))
        with pytest.raises(SystemExit, match=r"no answer to a first request: .*API key"):
            bench(capsys, *asked)
        document = bench(capsys, *asked, "--api-key-file", str(keys))
    [row] = document["tables"]["requests"]
    assert (row["complete"], row["failed"]) == (6, 0)
    assert "the servers' own metrics" in document["tables"]


@pytest.mark.parametrize("host", ["[::1]:8061", "localhost:8061", "192.0.2.1:8061"])
def test_a_server_is_asked_by_its_name(host: str) -> None:
    target = Target.of(f"http://{host}/v1", DIALECTS["paddler"])
    assert target.host == host.removesuffix(":8061").strip("[]")
    head = target.get("/metrics").request.split(b"\r\n")
    assert head[0] == b"GET /v1/metrics HTTP/1.1"
    assert b"Host: " + host.encode() in head


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://a", 80), ("https://a", 443), ("http://a:9", 9), ("https://a:0", 0)],
)
def test_a_port_is_the_one_that_was_given_or_that_of_the_scheme(url: str, port: int) -> None:
    assert Target.of(url, DIALECTS["paddler"]).port == port


def result(server: str, seconds: float) -> Result:
    """A round of one request, with a token after each `seconds`."""
    times = (seconds, 2 * seconds, 3 * seconds)
    return Result(server, ClosedLoop(1), (Reply(Outcome.COMPLETE, "", 7.0, times, 3),))


def test_a_ratio_is_the_median_of_the_pairs_ratios() -> None:
    ours = [result("a", seconds) for seconds in (1, 2, 30)]
    theirs = [result("b", seconds) for seconds in (2, 2, 10)]
    [row] = ratios_table([(ours, theirs)]).rows
    by_name = dict(zip([ratio.name for ratio in RATIOS], map(str, row[1:]), strict=True))
    assert by_name["tokens/s"] == "1.000 (0.333 to 2.000)"
    assert by_name["gap p99"] == "1.000 (0.500 to 3.000)"


def test_prometheus_text_is_read_and_compared() -> None:
    text = (
        '# HELP a b\na 1\nb{x="y z"} 2.5 1700000000\nc_bucket{le="1"} 3\nd NaN\nwrong line here\n'
    )
    assert parse(text) == {"a": 1.0, 'b{x="y z"}': 2.5}
    sums = {"a_sum": 6.0, "a_count": 4.0, 'b_sum{c="d"}': 1.0, 'b_count{c="d"}': 0.0}
    assert list(quotients({"a_sum": 1.0, "a_count": 2.0}, sums)) == [("a_mean", 2.5)]
    colon = {'e:f_sum{g="h"}': 6.0, 'e:f_count{g="h"}': 4.0}
    assert list(quotients({}, colon)) == [('e:f_mean{g="h"}', 1.5)]
    assert changed({"a": 1.0}, {"a": 3.0, "e": 0.0, "f": 2.0}) == [("a", 1, 3), ("f", 0, 2)]
