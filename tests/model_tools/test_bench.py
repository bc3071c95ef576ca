from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from model_tools.bench import cli
from model_tools.bench.measurement import Spread, measure
from model_tools.bench.workload import Prompts, Workload
from model_tools.export import export
from tests.model_tools.tiny_gguf import TinyLlama


@dataclass
class FakeRunner:
    """Says how long it took; all runners write into one log."""

    name: str
    seconds: list[float]
    log: list[tuple[str, int, int]] = field(default_factory=list)

    def run(self, prompts: Prompts, new_tokens: int) -> float:
        self.log.append((self.name, prompts.size, new_tokens))
        return self.seconds.pop(0)


def test_runners_take_turns_and_the_first_turn_warms_up() -> None:
    log: list[tuple[str, int, int]] = []
    runners = [FakeRunner("a", [9, 1, 2], log), FakeRunner("b", [9, 2, 8], log)]
    workloads = [Workload.generating(16, streams=2)]
    [measurement] = measure(runners, workloads, vocabulary_size=50, repetitions=2)
    assert log == [("a", 2, 16), ("b", 2, 16)] * 3
    assert measurement.rates == [Spread.of([32, 16]), Spread.of([16, 4])]
    assert measurement.ratios == [Spread.of([2, 4])]


def test_a_spread_is_the_mean_and_the_deviation_of_a_sample() -> None:
    assert Spread.of([1, 2, 3]) == Spread(2, 1)
    assert Spread.of([5]) == Spread(5, 0)


def test_workloads_are_named_and_counted_as_llama_bench_does() -> None:
    reading, generating = Workload.reading(512), Workload.generating(128, streams=1)
    assert (reading.name, reading.tokens) == ("pp512", 512)
    assert (generating.name, generating.tokens) == ("tg128", 128)
    together = Workload.generating(128, streams=8)
    assert (together.name, together.tokens) == ("tg128 x8", 1024)


def test_prompts_are_random_and_the_same_on_every_call() -> None:
    workload = Workload.reading(1000)
    prompts = workload.prompts(50)
    assert prompts.shape == (1, 1000)
    assert set(prompts.flat) == set(range(50))
    np.testing.assert_array_equal(prompts, workload.prompts(50))


def test_the_command_measures_both_engines_and_prints_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(TinyLlama().write(tmp_path / "tiny.gguf"), tmp_path / "folder", verify=False)
    flags = ["-p", "20,40", "-n", "10", "-s", "1,3", "-r", "2", "-t", "1", "--against", "genai"]
    cli.main([str(tmp_path / "folder"), *flags])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line[:1] == "|"]
    assert [row[1].strip() for row in rows[2:]] == ["pp20", "pp40", "tg10", "tg10 x3"]
    assert all(len(row) == 6 for row in rows)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["-p", "0", "-n", "0"], "nothing to measure"),
        (["-p", "4000"], "more than the model's context of 128"),
        (["-p", "x"], "must be an integer above 0"),
    ],
)
def test_a_bad_command_line_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], reason: str
) -> None:
    export(TinyLlama().write(tmp_path / "tiny.gguf"), tmp_path / "folder", verify=False)
    with pytest.raises(SystemExit) as ended:
        cli.main([str(tmp_path / "folder"), *flags])
    assert reason in f"{ended.value}{capsys.readouterr().err}"


def test_a_folder_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^skiff-bench: .*not a model folder"):
        cli.main([str(tmp_path)])
