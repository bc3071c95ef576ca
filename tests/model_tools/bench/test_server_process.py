"""`skiff-bench start` and `soak`, which start servers of their own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from model_tools.bench import cli
from model_tools.bench.report.saved import load
from model_tools.bench.server_process import serving
from server.errors import StartError
from tests.model.tiny_folder import tiny_folder

SHORT = (
    "--requests",
    "40",
    "--concurrency",
    "3",
    "--words",
    "1-4",
    "--new-tokens",
    "1-4",
    "--rest",
    "0",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("bench") / "place", weights="int8")


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    cli.main([*arguments, "-o", "json"])
    tables: dict[str, Any] = json.loads(capsys.readouterr().out)["tables"]
    return tables


def test_a_start_is_timed_to_ready_and_to_the_first_token(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = bench(capsys, "start", str(folder), "-r", "2", "--flags=--slots 1")
    ready, first_token = tables["from the start of the process"]
    assert (ready["until"], first_token["until"]) == ("ready", "first token")
    assert 0 < ready["milliseconds"] < first_token["milliseconds"]


def test_a_soak_notes_the_memory_after_each_round(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "run.json"
    tables = bench(capsys, "soak", str(folder), *SHORT, "--save", str(saved))
    [requests] = tables["requests"]
    assert requests["complete"] + requests["left"] == 40
    course = tables["memory"]
    assert [row["after requests"] for row in course] == list(range(0, 41, 2))
    resident = [row["resident MB"] for row in course]
    assert min(resident) > 1
    assert tables["second half"][0]["largest MB"] == max(resident[10:])
    if Path("/proc/self/smaps_rollup").exists():
        assert all(row["proportional MB"] <= row["resident MB"] for row in course)
    # Readings of one process depend on each other, and are no repetitions for `compare`.
    [series] = load(saved).series
    [mean] = series.samples
    assert mean == pytest.approx(np.mean([row[series.measure] for row in course[10:]]))


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--rest", "-1"], "--rest: must be a number of at least 0, not '-1'"),
        (["--concurrency", "2000"], "--concurrency: must be an integer from 1 to 1024"),
        (["--flags=--slots '2"], "--flags: No closing quotation"),
    ],
)
def test_flags_are_checked_before_anything_is_measured(
    folder: Path, flags: list[str], reason: str
) -> None:
    with pytest.raises(SystemExit, match=reason):
        cli.main(["soak", str(folder), *flags])


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(StartError, match=r"did not start: skiff: .*no such folder"),
        serving(tmp_path / "nowhere", []),
    ):
        pass


def test_a_server_is_measured_over_tcp_without_tls(folder: Path, tmp_path: Path) -> None:
    files = [tmp_path / "certificate", tmp_path / "key"]
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(files[0])
    issued.private_key_pem.write_to_path(files[1])
    encrypted = [f"--tls-{file.name}={file}" for file in files]
    elsewhere = [f"--inference-address=unix:{tmp_path}/socket"]
    for flags, url in ((encrypted, "https://127"), (elsewhere, "unix:/")):
        with (
            pytest.raises(StartError, match=f"only TCP without TLS is measured, not {url}"),
            serving(folder, flags),
        ):
            pass


def test_a_server_that_has_ended_has_no_memory(folder: Path) -> None:
    with serving(folder, []) as server:
        anonymous, proportional = server.anonymous_bytes, server.proportional_bytes
        assert server.resident_bytes >= (proportional or 1) > (anonymous or 0)
    with pytest.raises(StartError, match="has ended"):
        _ = server.resident_bytes
