"""`skiff-bench batch`: llama-batched-bench's columns."""

import json
from pathlib import Path

import pytest

from model_tools.bench import cli
from model_tools.bench.engine.batch_command import Batch, Measured
from model_tools.bench.engine.workload import Workload
from tests.model.tiny_folder import tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("batch") / "tiny", "int8")


def test_columns_are_llama_batched_benchs() -> None:
    batch = Batch(Workload(100, 20, streams=4), shared=False)
    measured = Measured(batch, ((2.0, 8.0), (2.0, 8.0)))
    assert [str(cell) for cell in measured.row] == [
        *("100", "20", "4", "480"),
        *("2.0", "200.0 ± 0.0", "8.0", "10.00 ± 0.00"),
        *("10.0", "48.0"),
    ]


def test_a_shared_prompt_counts_once() -> None:
    batch = Batch(Workload(100, 20, streams=4), shared=True)
    assert (batch.prompt_tokens, batch.new_tokens) == (100, 80)


@pytest.mark.parametrize("shared", [[], ["-pps"]])
def test_the_command_crosses_its_lists(
    folder: Path, shared: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["-npp", "8,20", "-ntg", "5", "-npl", "1,3", "-r", "2", "-t", "1", *shared]
    cli.main(["batch", str(folder), *flags, "-o", "json"])
    [rows] = json.loads(capsys.readouterr().out)["tables"].values()
    assert [(row["PP"], row["TG"], row["B"]) for row in rows] == [
        *((8, 5, 1), (8, 5, 3), (20, 5, 1), (20, 5, 3)),
    ]
    kept = 3 * 20 + 3 * 5 if not shared else 20 + 3 * 5
    assert rows[-1]["N_KV"] == kept
    assert all(row["S_PP t/s"] > 0 and row["S_TG t/s"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["-npp", "0"], "-npp/--prompt: must be an integer from 1"),
        (["-ntg", "5,0"], "-ntg/--new: must be an integer from 1"),
        (["-npl", "1,2000"], "-npl/--parallel: must be an integer from 1 to 1024"),
        (["-npl", "2,2"], "-npl/--parallel: must name each value once"),
    ],
)
def test_a_bad_command_line_is_one_line(folder: Path, flags: list[str], reason: str) -> None:
    with pytest.raises(SystemExit, match=rf"^skiff-bench: [^\n]*{reason}[^\n]*$"):
        cli.main(["batch", str(folder), *flags])
