"""The command for a machine with a GPU, rehearsed on the CPU; and its parts on their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from model_tools.decoder_spec import DecoderSpec
from model_tools.gpu_check import loaded as loading
from model_tools.gpu_check import measures, peer
from model_tools.gpu_check.__main__ import main
from model_tools.gpu_check.checks import graphs_against_launches, joins_and_leaves
from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.goals import goals
from model_tools.gpu_check.loaded import DoesNotFit, LoadedModel, exported
from model_tools.gpu_check.nearness import LARGEST_KL
from model_tools.gpu_check.parts import PARTS
from model_tools.gpu_check.setting import Kind, Setting
from model_tools.gpu_check.shapes import REHEARSAL, TINY
from model_tools.progress import unseen
from model_tools.recipe import KvLayout, Recipe, Target, WeightType
from model_tools.verification.comparison import Rows, Tokens
from model_tools.verification.reference import reference_logits
from model_tools.weights.random_source import RandomSource
from server.config import CPU, Device
from server.errors import DeviceLost, StartError
from server.model.gpu.cuda_memory import CudaError
from server.model.gpu.decoder import DeviceDecoder
from server.model.gpu.memory import HostMemory
from tests.model.gpu.paged_attention import stand_in
from tests.model_tools.tiny_gguf import TinyLlama


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Rows of a rehearsal with all parts. Graphs with pages or bfloat16 are replaced by stand-ins,
    since the CPU has no kernels for them."""
    place = tmp_path_factory.mktemp("gpu_check")
    gguf = TinyLlama(context_length=256).write(place / "tiny.gguf")
    flags = ["--device", "cpu", "--gguf", str(gguf), "--json", str(place / "found.json")]
    for name in ("1b", "8b"):
        recipe = Kind(WeightType.FP16, KvLayout.PAGES).recipe()
        folder = exported(place, f"{name}-fp16-pages", RandomSource(TINY), recipe, unseen)
        stand_in(folder.model_file, 16)
    exported(place, "1b-bf16", RandomSource(TINY), Kind(WeightType.FP16).recipe(), unseen)
    main([*flags, "--models", str(place)])
    document = json.loads((place / "found.json").read_text())
    assert "rehearsal" in document["header"]["device"]
    rows: list[dict[str, object]] = document["tables"]["gpu_check"]
    return rows


def named(found: list[dict[str, object]], model: str, what: str) -> list[dict[str, object]]:
    return [row for row in found if row["model"] == model and str(row["what"]).startswith(what)]


def mean_kl(row: dict[str, object]) -> float:
    assert "WRONG" not in str(row["note"])
    return float(str(row["note"]).partition("mean KL ")[2].partition(",")[0])


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("SmolLM2 fp16", 1e-4),
        ("1b fp16", 1e-4),
        ("1b fp16 pages", 1e-4),
        ("1b bf16", 1e-4),
        ("1b int8", 0.005),
        ("1b fp16 kv int8", 0.005),
    ],
)
def test_the_device_is_compared_with_the_cpu(
    found: list[dict[str, object]], model: str, most: float
) -> None:
    for what in ("logits against the CPU", "decoded logits against the CPU"):
        [logits] = named(found, model, what)
        assert mean_kl(logits) < most
    [tokens] = named(found, model, "greedy tokens")
    assert " of 48 tokens before the first that differs" in str(tokens["note"])


def test_kinds_are_what_they_are_called(found: list[dict[str, object]]) -> None:
    """Otherwise they would be as near as fp16, as the stand-ins are."""
    for model in ("1b int8", "1b fp16 kv int8"):
        assert mean_kl(named(found, model, "logits against the CPU")[0]) > 1e-4
    for model in ("1b int8", "1b int4"):
        assert mean_kl(named(found, model, "logits against the same graph")[0]) < 1e-6


@pytest.mark.parametrize("model", ["1b fp16", "1b fp16 pages"])
def test_tokens_are_compared_in_a_mix_and_however_calls_are_made(
    found: list[dict[str, object]], model: str
) -> None:
    [mix] = named(found, model, "alone and in a mix, greedy")
    assert "of 12 tokens differ beside 12 others" in str(mix["note"])
    for what in ("CUDA graphs", "calls made ahead"):
        [alike] = named(found, model, f"with and without {what}")
        assert alike["note"] == "0 of 12 tokens differ"


@pytest.mark.parametrize("model", ["1b fp16", "1b fp16 pages"])
def test_requests_join_and_leave(found: list[dict[str, object]], model: str) -> None:
    [row] = named(found, model, "20 requests")
    left, _, rest = str(row["note"]).partition(" left early")
    assert int(left) > 0
    assert "all slots free; 0 bytes did not come back" in rest


AT_LENGTH = ["fp16", "int4", "fp16 pages"]
IN_BRIEF = ["bf16", "int8", "fp16 kv int8"]


@pytest.mark.parametrize(
    ("name", "batches"),
    [
        *((f"{model} {kind}", REHEARSAL.batches) for model in ("1b", "8b") for kind in AT_LENGTH),
        *((f"1b {kind}", REHEARSAL.few_batches) for kind in IN_BRIEF),
    ],
)
def test_each_cell_has_its_figures(
    found: list[dict[str, object]], name: str, batches: tuple[int, ...]
) -> None:
    cells = [row for row in named(found, name, "decode") if row["what"] == "decode"]
    assert [(row["batch"], row["past"]) for row in cells] == [
        (batch, past) for past in REHEARSAL.pasts for batch in batches
    ]
    for row in [*cells, *named(found, name, "decode, ")]:
        speed, step, batch = row["tokens/s"], row["step, ms"], row["batch"]
        assert isinstance(speed, float)
        assert isinstance(step, float)
        assert isinstance(batch, int)
        np.testing.assert_allclose(speed * step, 1e3 * batch)
        assert isinstance(row["of bandwidth"], float)
    assert len(named(found, name, "prompt of")) == len(REHEARSAL.prompts)
    assert "GB/s" in str(named(found, name, "copy inside")[0]["note"])


def test_drawn_tokens_are_timed_where_candidates_decide_and_where_they_do_not(
    found: list[dict[str, object]],
) -> None:
    names = {row["model"] for row in found if str(row["what"]).startswith("decode, ")}
    assert names == {"1b fp16"}
    for words in ("temperature 0.8, top-k 40, top-p 0.95", "temperature 0.8, top-p 0.95"):
        cells = named(found, "1b fp16", f"decode, {words}")
        assert [row["batch"] for row in cells] == list(REHEARSAL.few_batches)
        assert all("rows fetched whole" in str(row["note"]) for row in cells)


def test_the_goals_are_told_with_the_large_model(found: list[dict[str, object]]) -> None:
    assert len([row for row in found if str(row["what"]).startswith("goal: ")]) == 5


@pytest.fixture(autouse=True)
def nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides models that `scripts/serve` has downloaded on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_without_time_models_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    with pytest.raises(SystemExit):
        main(["--device", "cpu", "--part", "1b", "--minutes", "0", "--json", str(file)])
    rows = json.loads(file.read_text())["tables"]["gpu_check"]
    left_out = [row["model"] for row in rows if row["note"] == "skipped: no time left"]
    assert left_out == [f"1b {kind}" for kind in (*AT_LENGTH, *IN_BRIEF)]
    assert "skipped: no time left" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "last"), [("checks", "1b int8"), ("1b", "1b fp16 kv int8"), ("8b", "8b fp16 pages")]
)
def test_where_nothing_could_be_checked_the_reason_is_the_exit_status(
    part: str, last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with an ONNX Runtime that is too old."""
    monkeypatch.setattr(loading, "open_session", Mock(side_effect=StartError("too old")))
    said = f"^gpu_check: nothing was checked or measured; the last, {last}: skipped: too old$"
    with pytest.raises(SystemExit, match=said):
        main(["--device", "cpu", "--part", part, "--json", str(tmp_path / "found.json")])


def test_without_a_kernel_models_are_left_out_and_named(tmp_path: Path) -> None:
    """As on any machine without a GPU."""
    file = tmp_path / "found.json"
    main(["--device", "cpu", "--part", "checks", "--part", "1b", "--json", str(file)])
    rows = json.loads(file.read_text())["tables"]["gpu_check"]
    reasons = {(row["model"], row["what"]): row["note"] for row in rows}
    for what in ("against the CPU in fp32", "speed"):
        for kind, operator in (("bf16", "FusedMatMul"), ("fp16 pages", "PagedAttention")):
            note = reasons.pop((f"1b {kind}", what))
            assert note.startswith("skipped: ")
            assert f"Could not find an implementation for {operator}" in note
    assert reasons.pop(("1b fp16 pages", "by itself")).startswith("skipped: ")
    left = {model for (model, _), note in reasons.items() if note.startswith(("skip", "fail"))}
    assert left == {"SmolLM2"} | ({"1b"} if not peer.PRESENT else set())


class NumpyPeer:
    """Stands in for `transformers`: computes the same logits."""

    def __init__(self, source: RandomSource, _: Device) -> None:
        self._source = source

    def logits(self, text: Tokens) -> Rows:
        [rows] = reference_logits(self._source, [text[:-1]])
        return rows

    def tokens_per_second(self, _prompt: Tokens, batch: int, _new_tokens: int) -> float:
        return float(batch)


def test_each_kind_is_compared_with_a_peer_and_greedy_steps_stand_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "PRESENT", True)
    monkeypatch.setattr(peer, "Peer", NumpyPeer)
    file = tmp_path / "found.json"
    main(["--device", "cpu", "--part", "1b", "--json", str(file)])
    rows = json.loads(file.read_text())["tables"]["gpu_check"]
    kinds = [kind for kind in (*AT_LENGTH, *IN_BRIEF) if kind not in ("fp16 pages", "bf16")]
    for kind in kinds:
        [logits] = named(rows, f"1b {kind}", "logits against transformers")
        assert (mean_kl(logits) > LARGEST_KL) == (kind == "int4")
        for row in named(rows, f"1b {kind}", "decode"):
            greedy = row["what"] == "decode"
            assert row["transformers, tokens/s"] == (row["batch"] if greedy else None)


def test_a_lost_device_ends_it_with_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, since ONNX Runtime's destructors would abort the process."""
    models: list[Path] = []

    def lost(setting: Setting) -> Iterator[Finding]:
        models.append(setting.models_folder)
        yield Finding("1b fp16", "by itself")
        raise DeviceLost("cuda:0: an illegal memory access was encountered")

    leave = Mock(side_effect=SystemExit)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setitem(PARTS, "1b", lost)
    file = tmp_path / "found.json"
    with pytest.raises(SystemExit):
        main(["--device", "cpu", "--part", "1b", "--part", "8b", "--json", str(file)])
    leave.assert_called_once_with(1)
    [row] = json.loads(file.read_text())["tables"]["gpu_check"]
    assert row["what"] == "by itself"
    shown = capsys.readouterr()
    assert "by itself" in shown.out
    assert shown.err.endswith(
        "the rest is left out: cuda:0: an illegal memory access was encountered\n"
    )
    assert not models[0].exists()


def test_a_check_that_failed_is_the_exit_status_after_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [
        Finding("1b fp16", "logits", note="WRONG", failed=True),
        Finding("1b int8", "by itself", note="skipped: no kernel"),
        Finding("1b int4", "speed", note="failed: RuntimeError", failed=True),
    ]
    monkeypatch.setitem(PARTS, "checks", lambda _: iter(found))
    file = tmp_path / "found.json"
    with pytest.raises(SystemExit, match=r"^gpu_check: failed: 1b fp16: logits; 1b int4: speed$"):
        main(["--device", "cpu", "--part", "checks", "--json", str(file)])
    rows = json.loads(file.read_text())["tables"]["gpu_check"]
    assert [row["note"] for row in rows] == [each.note for each in found]
    assert "skipped: no kernel" in capsys.readouterr().out


class Lost(HostMemory):
    def settle(self) -> None:
        raise CudaError("an illegal memory access was encountered")


@pytest.mark.parametrize(("memory", "raised"), [(HostMemory, StartError), (Lost, DeviceLost)])
def test_a_first_call_that_fails_may_be_the_devices_last(
    memory: type[HostMemory],
    raised: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = Recipe(WeightType.FP32, 32, Target.CUDA)
    folder = exported(tmp_path, "tiny", RandomSource(TINY), recipe, unseen)
    model = LoadedModel(folder, CPU, threads=1, cuda_graphs=True)
    monkeypatch.setattr(model, "memory", memory())
    error = StartError("a first call failed: CUDA failure 700")
    monkeypatch.setattr(DeviceDecoder, "warm_up", Mock(side_effect=error))
    with pytest.raises(raised, match="a first call failed: CUDA failure 700"):
        model.decoder(slots=1, context=64)


class Leaking(HostMemory):
    """Loses a byte with each write."""

    def write(self, address: int, array: NDArray[np.generic], pitch: int = 0) -> None:
        self.free_bytes -= 1
        super().write(address, array, pitch)


def test_memory_that_does_not_come_back_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(tmp_path, TINY)
    assert not joins_and_leaves(model, "tiny", visitors=5, slots=2).failed
    monkeypatch.setattr(model, "memory", Leaking())
    finding = joins_and_leaves(model, "tiny", visitors=5, slots=2)
    assert finding.failed
    assert "; 0 bytes" not in finding.note


def test_tokens_of_the_same_kernels_that_differ_are_a_failure(tmp_path: Path) -> None:
    specs = {"one": TINY, "other": replace(TINY, layers=1)}
    one, other = (
        loaded(tmp_path / name, spec).decoder(slots=1, context=64) for name, spec in specs.items()
    )
    assert not graphs_against_launches("tiny", one, one, 20).failed
    assert graphs_against_launches("tiny", one, other, 20).failed


def loaded(place: Path, spec: DecoderSpec) -> LoadedModel:
    folder = exported(place, "tiny", RandomSource(spec), Kind(WeightType.FP16).recipe(), unseen)
    return LoadedModel(folder, CPU, threads=1, cuda_graphs=True)


class Full(HostMemory):
    free_bytes = 5 << 30


def test_a_cell_that_does_not_fit_says_what_it_would_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(WeightType.FP32, 32, Target.CUDA)
    folder = exported(tmp_path, "tiny", RandomSource(TINY), recipe, unseen)
    model = LoadedModel(folder, CPU, threads=1, cuda_graphs=True)
    monkeypatch.setattr(model, "memory", Full())
    model.decoder(slots=4, context=64)
    with pytest.raises(DoesNotFit, match=r"8.0 GiB of keys and values, 5.0 free"):
        model.decoder(slots=16384, context=1024)


@pytest.mark.parametrize("tied", [True, False])
def test_the_bytes_of_a_step_are_those_of_the_matrices(tmp_path: Path, tied: bool) -> None:
    recipe = Recipe(WeightType.FP32, 32, Target.CUDA)
    spec = replace(TINY, tied_embedding=tied)
    folder = exported(tmp_path, "tiny", RandomSource(spec), recipe, unseen)
    model = LoadedModel(folder, CPU, threads=1, cuda_graphs=True)
    layer = 64 * (64 + 32 + 32) + 64 * 64 + 3 * 64 * 96
    norms = 64 * (2 * TINY.layers + 1)
    matrices = 4 * (TINY.layers * layer + norms + 512 * 64)
    assert 0 <= model.bytes_read - matrices < 1000  # and constants of a few bytes


class QueuedCopies(HostMemory):
    """Copies `bandwidth` bytes per second by a clock of its own, once they are waited for."""

    def __init__(self, bandwidth: float) -> None:
        self.bandwidth = bandwidth
        self.now = 0.0
        self.queued = 0

    def perf_counter(self) -> float:
        return self.now

    def copy(
        self, source: int, destination: int, *, rows: int, row_bytes: int, pitches: tuple[int, int]
    ) -> None:
        self.queued += rows * row_bytes

    def settle(self) -> None:
        self.now += self.queued / self.bandwidth
        self.queued = 0


@pytest.mark.parametrize("nbytes", [1 << 16, 5 << 20])
def test_a_copy_counts_what_it_reads_and_writes(
    nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = QueuedCopies(bandwidth=1000.0)
    monkeypatch.setattr(measures, "time", memory)
    assert measures.copy_bandwidth(memory, nbytes) == pytest.approx(2 * 1000)


def test_weights_are_the_same_each_time_and_none_like_another() -> None:
    source = RandomSource(TINY)
    first, again, second = source.layer(0), RandomSource(TINY).layer(0), source.layer(1)
    np.testing.assert_array_equal(first.q, again.q)
    assert not np.array_equal(first.q, second.q)
    assert not np.array_equal(first.k, first.v)
    assert abs(first.down.std() * 96**0.5 - 1) < 0.05


def cell(weights: str, batch: int, speed: float) -> Finding:
    return Finding(f"8b {weights}", "decode", batch, 0, speed, 1e3 * batch / speed)


def test_goals_are_reached_or_not() -> None:
    cells = [
        replace(cell("fp16", 1, 200.0), of_bandwidth=0.8, transformers=40.0, kernels_ms=4.8),
        cell("fp16", 64, 4000.0),
        cell("int4", 1, 380.0),
    ]
    told = {goal.what: goal.note for goal in goals(cells, "8b", "int4", "fp16")}
    assert told == {
        "goal: of bandwidth, batch 1": "at least 0.75: 0.80, reached",
        "goal: times fp16, batch 1": "at least 1.8: 1.90, reached",
        "goal: times transformers, batch 1": "at least 3: 5.00, reached",
        "goal: times one stream, batch 64": "at least 25: 20.00, not reached",
        "goal: host's share of a step, batch 1": "at most 0.1: 0.04, reached",
    }
    assert {goal.note.partition(": ")[2] for goal in goals([], "8b", "int4", "fp16")} == {
        "not measured"
    }


def test_without_a_gpu_it_is_one_line_that_says_why(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "model_tools.gpu_check", "--json", str(tmp_path / "found.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "cuda:0 is not available" in run.stderr
    assert not (tmp_path / "found.json").exists()


def test_a_torch_that_cannot_be_imported_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudnn.so: not found')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    program = "from model_tools.gpu_check.peer import MISSING, PRESENT; print(PRESENT, MISSING)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.stdout.startswith("False no torch and transformers (libcudnn.so: not found): pip")


def test_a_run_that_is_killed_leaves_no_models(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "model_tools.gpu_check", "--device", "cpu", "--part", "1b"]
    with subprocess.Popen(
        [*command, "--json", str(tmp_path / "found.json")],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stderr is not None
        next(line for line in run.stderr if "writing layers" in line)
        assert list(tmp_path.glob("gpu_check.*/*"))
        run.terminate()
        assert run.stderr.read().endswith("gpu_check: interrupted\n")
    assert not list(tmp_path.glob("gpu_check.*/"))


def test_a_device_that_there_is_no_kind_of_is_one_line() -> None:
    reason = "must be auto, cpu, cuda or cuda:N, not 'gpu'"
    with pytest.raises(SystemExit, match=f"^gpu_check: argument --device: {reason}"):
        main(["--device", "gpu"])


@pytest.mark.parametrize(
    ("flag", "path", "reason"),
    [("--json", "none/found.json", "no such folder"), ("--models", "file/models", "Not a dir")],
)
def test_what_cannot_be_written_is_said_before_anything_is_made(
    tmp_path: Path, flag: str, path: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=rf"^gpu_check: {tmp_path / path}: {reason}"):
        main(["--device", "cpu", "--json", str(tmp_path / "json"), flag, str(tmp_path / path)])
    assert capsys.readouterr().err == ""
