"""`skiff-bench engine`: what is timed, in which order, and what is printed of it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from model_tools.bench import cli
from model_tools.bench.engine import skiff_runner
from model_tools.bench.engine.genai_runner import Fastest
from model_tools.bench.engine.measurement import Measurement, measure
from model_tools.bench.engine.own_process import OwnProcess
from model_tools.bench.engine.random_model import random_model
from model_tools.bench.engine.skiff_runner import SkiffRunner
from model_tools.bench.engine.workload import Prompts, Timing, Workload, time
from server.engine.sequence import Sequence
from server.errors import StartError
from server.model.folder import ModelFolder
from server.model.opening import open_cpu_decoder
from tests.model.tiny_folder import tiny_folder


@dataclass
class FakeRunner:
    """Says how long it took; all runners write into one log."""

    name: str
    seconds: list[float]
    log: list[tuple[str, int]] = field(default_factory=list)

    @property
    def setting(self) -> str:
        return f"{self.name}'s"

    def read(self, prompts: Prompts, new_tokens: int) -> Timing:
        self.log.append((self.name, int(prompts.sum())))
        return Timing(self.seconds.pop(0))

    generate = read


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("bench") / "tiny", "int8")


def test_runners_take_turns_at_being_first_and_the_first_round_warms_up() -> None:
    log: list[tuple[str, int]] = []
    done: list[None] = []
    runners = [FakeRunner("a", [9, 1, 2], log), FakeRunner("b", [9, 2, 8], log)]
    [[first, second]] = measure(
        runners,
        [Workload(0, 16, streams=2)],
        vocabulary_size=1000,
        repetitions=2,
        done=lambda: done.append(None),
    )
    assert [name for name, _ in log] == ["a", "b", "b", "a", "a", "b"]
    assert len(done) == 6
    assert (first.rates, second.rates) == ([32, 16], [16, 4])
    assert first.ratios(second) == [2, 4]


def test_each_repetition_has_prompts_of_its_own_and_all_runners_have_the_same() -> None:
    """A prefix cache would make a repeated prompt look fast."""
    log: list[tuple[str, int]] = []
    runners = [FakeRunner("a", [1] * 6, log), FakeRunner("b", [1] * 6, log)]
    workloads = [Workload(100, 0), Workload(100, 1)]
    list(measure(runners, workloads, vocabulary_size=10**9, repetitions=2, done=lambda: None))
    sums = [total for _, total in log]
    assert sums[::2] == sums[1::2]
    assert len(set(sums)) == 6


@pytest.mark.parametrize(
    ("workload", "name", "tokens", "given"),
    [
        (Workload(512, 0), "pp512", 512, 512),
        (Workload(0, 128), "tg128", 128, 1),
        (Workload(0, 128, streams=8), "tg128 x8", 1024, 1),
        (Workload(512, 128), "pp512+tg128", 640, 512),
        (Workload(512, 0, depth=1000), "pp512 @ d1000", 512, 1512),
        (Workload(0, 128, 1000, 2), "tg128 x2 @ d1000", 256, 1000),
    ],
)
def test_workloads_are_named_and_counted_as_llama_bench_does(
    workload: Workload, name: str, tokens: int, given: int
) -> None:
    assert (workload.name, workload.tokens, workload.given) == (name, tokens, given)
    assert workload.prompts(50, seed=0).shape == (workload.streams, given)


def test_prompts_are_random_and_the_same_for_one_seed() -> None:
    workload = Workload(1000, 0)
    prompts = workload.prompts(50, seed=1)
    assert set(prompts.flat) == set(range(50))
    np.testing.assert_array_equal(prompts, workload.prompts(50, seed=1))
    assert (prompts != workload.prompts(50, seed=2)).any()


@pytest.mark.parametrize(
    ("workload", "tokens"),
    [
        (Workload(20, 0), [(20, 1)]),
        (Workload(0, 10, streams=3), [(1, 11)]),
        (Workload(0, 10, depth=40, streams=2), [(40, 11)]),
        (Workload(20, 5, depth=40, streams=2), [(40, 1), (60, 5)]),
    ],
)
def test_skiff_runs_a_workload_again_and_again(
    folder: Path,
    workload: Workload,
    tokens: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Checks the prompt and new tokens of a stream. One new token may come before the clock starts;
    streams that begin before the last one may have more."""
    made: list[Sequence] = []

    def kept(**arguments: Any) -> Sequence:
        made.append(Sequence(**arguments))
        return made[-1]

    monkeypatch.setattr(skiff_runner, "Sequence", kept)
    runner = SkiffRunner(folder, workloads=[workload], threads=1)
    for seed in range(3):
        time(runner, workload, workload.prompts(runner.vocabulary_size, seed))
        counts = sorted((len(each.prompt), len(each.generated)) for each in made)
        assert counts[:: workload.streams] == tokens
        made.clear()


def test_skiffs_time_is_split(folder: Path) -> None:
    workload = Workload(20, 5)
    runner = SkiffRunner(folder, workloads=[workload], threads=1)
    timing = runner.read(workload.prompts(runner.vocabulary_size, seed=0), new_tokens=5)
    split = timing.split
    assert split is not None
    assert min(split.model, split.sampling, split.text) > 0
    assert split.model + split.sampling + split.text < timing.seconds


def test_an_engine_runs_in_a_process_of_its_own() -> None:
    log: list[tuple[str, int]] = []
    prompts = Workload(20, 5).prompts(50, seed=0)
    with OwnProcess(partial(FakeRunner, "a", [3, 4], log)) as runner:
        assert (runner.name, runner.setting) == ("a", "a's")
        assert runner.read(prompts, new_tokens=5) == Timing(3)
        assert runner.generate(prompts, new_tokens=5) == Timing(4)
        assert runner.ask("log") == [("a", prompts.sum())] * 2
    assert log == []
    with pytest.raises(StartError, match="an engine's process ended"):
        runner.read(prompts, new_tokens=5)


class Interrupting:
    """Its parent hears Ctrl-C while it waits for an answer, which does not come."""

    name = "interrupting"

    def answer(self) -> None:
        os.kill(os.getppid(), signal.SIGINT)
        threading.Event().wait(timeout=30)


@pytest.fixture
def _hears_ctrl_c() -> Iterator[None]:
    """Restores Ctrl-C, which is ignored where a script runs these tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_hears_ctrl_c")
def test_an_interrupt_ends_a_run(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), OwnProcess(Interrupting) as engine:
        engine.run("answer")
    assert capfd.readouterr().err == ""


def test_what_is_wrong_with_an_engine_is_told_here(folder: Path) -> None:
    workload = Workload(4000, 0)
    with pytest.raises(StartError, match="more than the model's context"):
        OwnProcess(partial(SkiffRunner, folder, workloads=[workload], threads=1))


def test_of_several_settings_the_fastest_is_kept_for_each_workload() -> None:
    fastest = Fastest(
        [FakeRunner("a", [1, 5, 5, 9, 1, 1, 7]), FakeRunner("b", [9, 9, 2, 6, 9, 3, 3])]
    )
    prompts = Workload(10, 0).prompts(50, seed=0)
    assert fastest.read(prompts, 1) == Timing(6)
    assert fastest.setting == "b's"
    assert fastest.generate(prompts, 1) == Timing(7)
    assert fastest.setting == "a's"


def test_what_lies_below_a_prompt_is_not_counted() -> None:
    runner = FakeRunner("a", [3, 10])
    workload = Workload(20, 0, depth=30)
    assert time(runner, workload, workload.prompts(50, seed=0)) == Timing(7)


def test_a_rate_counts_the_tokens_of_all_streams() -> None:
    measurement = Measurement(Workload(0, 10, streams=4), "a", "", (Timing(2), Timing(4)))
    assert measurement.rates == [20, 10]


def test_the_command_measures_both_engines_and_prints_tables(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["-p", "20,40", "-n", "10", "-pg", "20,5", "-d", "0,30", "-s", "1,3", "-r", "1"]
    cli.main(["engine", str(folder), *flags, "-t", "1", "--against", "genai", "-o", "json"])
    document = json.loads(capsys.readouterr().out)
    tests = ["pp20", "pp40", "tg10", "pp20+tg5", "tg10 x3", "pp20+tg5 x3"]
    for rows in document["tables"].values():
        assert [row["test"] for row in rows] == tests + [f"{test} @ d30" for test in tests]
    for row in document["tables"]["tokens per second"]:
        assert row["skiff / genai"] > 0 or "@ d30" in row["test"]  # a difference of tiny times
        assert row["genai's setting"] == "1 threads, spinning"
    header = document["header"]
    assert header["weights"] == "int8 in blocks of 32"
    assert header["provider"] == "CPUExecutionProvider"
    assert "onnxruntime 1" in header["versions"]


def test_the_other_engine_can_be_swept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["-p", "20", "-n", "0", "-r", "1", "-t", "1", "--against", "genai", "--sweep"]
    cli.main(["engine", str(folder), *flags, "-o", "jsonl"])
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert row["genai's setting"] in ("1 threads, spinning", "1 threads, not spinning")


def test_tokens_can_be_drawn_and_a_vocabulary_be_of_any_size(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = "--sampling=--temperature 0.8 --top-k 40 --repetition-penalty 1.1 --seed 1"
    flags = ["-p", "0", "-n", "5", "-s", "2", "-r", "1", "-t", "1", drawn]
    cli.main(["engine", str(folder), *flags, "--vocabulary", "2000", "-o", "json"])
    document = json.loads(capsys.readouterr().out)
    [row] = document["tables"]["skiff's microseconds per token"]
    assert 0 < row["sampling / all"] < 1 - row["ONNX Runtime / all"]
    assert document["header"]["model"].startswith("random-2000, ")


def test_a_random_model_has_the_shape_of_its_folder(folder: Path) -> None:
    with random_model(folder, 700) as made:
        config, like = (ModelFolder.read(each) for each in (made, folder))
        assert config.context_length == like.context_length
        decoder = open_cpu_decoder(config, slots=1, context=20, threads=1)
        assert decoder.decode([699], [0]).shape == (1, 700)
    assert not made.exists()


def test_a_folder_of_another_kind_has_no_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StartError, match=r"genai_config\.json: No such file"):
        random_model(tmp_path, 700).__enter__()
    (tmp_path / "genai_config.json").write_text("{}")
    with pytest.raises(StartError, match="not a folder of skiff-export"):
        random_model(tmp_path, 700).__enter__()


def test_a_vocabulary_that_memory_has_no_room_for_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "empty", Mock(side_effect=MemoryError("Unable to allocate 477 GiB")))
    with pytest.raises(StartError, match=r"^--vocabulary: .* too little memory .* 477 GiB$"):
        random_model(folder, 2**31 - 1).__enter__()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["-p", "0", "-n", "0"], "nothing to measure"),
        (["--sampling=--top-p 2"], "--top-p must be a number above 0 and at most 1"),
        (["--sampling=--top-q 2"], "--sampling: unrecognized arguments: --top-q"),
        (["--sampling=--top-k '2"], "argument --sampling: No closing quotation"),
        (["--sampling=--top-k 2", "--against", "genai"], "genai is measured greedily"),
        (["--sweep"], "--sweep: there is no other engine without --against"),
        (["-p", "4000"], "more than the model's context of 128"),
        (["-s", "0"], "-s/--streams: must be an integer from 1 to 1024"),
        (["-t", "2000"], "-t/--threads: must be an integer from 1 to 1024"),
        (["-p", "20,20"], "-p/--prompt: must name each value once"),
        (["-p", "x"], "must be an integer from 1 to 2147483647"),
        (["-pg", "5"], "must be two numbers"),
        (["-pg", "5,5", "-pg", "5,5"], "-pg must name each pair once"),
        (["-d", "-1"], "must be an integer from 0 to 2147483647"),
    ],
)
def test_a_bad_command_line_is_one_line(folder: Path, flags: list[str], reason: str) -> None:
    with pytest.raises(SystemExit, match=rf"^skiff-bench: .*{reason}[^\n]*$"):
        cli.main(["engine", str(folder), *flags])


def test_another_engine_that_cannot_be_imported_is_missed_only_when_it_is_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime_genai.py").write_text("raise ImportError('libcudart.so: not found')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    flags = ["engine", str(folder), "-p", "2", "-n", "0", "-r", "1", "-t", "1"]
    command = [sys.executable, "-m", "model_tools.bench", *flags]
    alone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr
    command += ["--against", "genai"]
    beside = subprocess.run(command, capture_output=True, text=True, check=False)
    reason = "onnxruntime-genai cannot be imported (libcudart.so: not found): pip install"
    assert beside.stderr.startswith(f"skiff-bench: {reason}")


def test_a_folder_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^skiff-bench: .*not a model folder"):
        cli.main(["engine", str(tmp_path)])
