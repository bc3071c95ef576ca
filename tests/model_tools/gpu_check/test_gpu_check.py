"""The command for a machine with a GPU, rehearsed on the CPU; and its parts on their own."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_tools.gpu_check import measures
from model_tools.gpu_check.__main__ import main
from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.goals import goals
from model_tools.gpu_check.loaded import DoesNotFit, LoadedModel, exported
from model_tools.gpu_check.random_source import RandomSource
from model_tools.gpu_check.setting import Kind
from model_tools.gpu_check.shapes import LLAMA_8B, ON_A_GPU, REHEARSAL, TINY
from model_tools.progress import unseen
from model_tools.recipe import KvLayout, Recipe, Target, WeightType
from server.config import CPU
from server.model.device_memory import HostMemory
from tests.model.paged_attention import stand_in
from tests.model_tools.tiny_gguf import TinyLlama


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Rows of a rehearsal with all parts. What runs over pages are stand-ins for what a GPU runs:
    the CPU has no kernel for these."""
    place = tmp_path_factory.mktemp("gpu_check")
    gguf = TinyLlama(context_length=256).write(place / "tiny.gguf")
    flags = ["--device", "cpu", "--gguf", str(gguf), "--json", str(place / "found.json")]
    for name in ("1b", "8b"):
        recipe = Kind(WeightType.FP16, KvLayout.PAGES).recipe()
        folder = exported(place, f"{name}-fp16-pages", RandomSource(TINY), recipe, unseen)
        stand_in(folder.model_file, 16)
    main([*flags, "--models", str(place)])
    document = json.loads((place / "found.json").read_text())
    assert "rehearsal" in document["header"]["device"]
    rows: list[dict[str, object]] = document["tables"]["gpu_check"]
    return rows


def named(found: list[dict[str, object]], model: str, what: str) -> list[dict[str, object]]:
    return [row for row in found if row["model"] == model and str(row["what"]).startswith(what)]


@pytest.mark.parametrize("model", ["SmolLM2 fp16", "1b fp16", "1b fp16 pages"])
def test_the_device_is_compared_with_the_cpu(found: list[dict[str, object]], model: str) -> None:
    [logits] = named(found, model, "logits against the CPU")
    assert float(str(logits["note"]).partition("mean KL ")[2].partition(",")[0]) < 1e-4
    [tokens] = named(found, model, "greedy tokens")
    assert " of 48 tokens before the first that differs" in str(tokens["note"])


@pytest.mark.parametrize("model", ["1b fp16", "1b fp16 pages"])
def test_tokens_are_compared_in_a_mix_and_however_calls_are_made(
    found: list[dict[str, object]], model: str
) -> None:
    [mix] = named(found, model, "alone and in a mix")
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


@pytest.mark.parametrize("model", ["1b", "8b"])
@pytest.mark.parametrize("kind", ["fp16", "int4", "fp16 pages"])
def test_each_cell_has_its_figures(found: list[dict[str, object]], model: str, kind: str) -> None:
    name = f"{model} {kind}"
    cells = named(found, name, "decode")
    assert [(row["batch"], row["past"]) for row in cells] == [
        (batch, past) for past in REHEARSAL.pasts for batch in REHEARSAL.batches
    ]
    for row in cells:
        speed, step, batch = row["tokens/s"], row["step, ms"], row["batch"]
        assert isinstance(speed, float)
        assert isinstance(step, float)
        assert isinstance(batch, int)
        np.testing.assert_allclose(speed * step, 1e3 * batch)
        assert isinstance(row["of bandwidth"], float)
    assert len(named(found, name, "prompt of")) == len(REHEARSAL.prompts)
    assert "GB/s" in str(named(found, name, "copy inside")[0]["note"])


def test_the_goals_are_told_with_the_large_model(found: list[dict[str, object]]) -> None:
    assert len([row for row in found if str(row["what"]).startswith("goal: ")]) == 5


def test_without_time_models_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    main(["--device", "cpu", "--part", "1b", "--minutes", "0", "--json", str(file)])
    rows = json.loads(file.read_text())["tables"]["gpu_check"]
    left_out = [row["model"] for row in rows if row["note"] == "skipped: no time left"]
    assert left_out == ["1b fp16", "1b int4", "1b fp16 pages"]
    assert "skipped: no time left" in capsys.readouterr().out


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


def test_the_bytes_of_a_step_are_those_of_the_matrices(tmp_path: Path) -> None:
    recipe = Recipe(WeightType.FP32, 32, Target.CUDA)
    folder = exported(tmp_path, "tiny", RandomSource(TINY), recipe, unseen)
    model = LoadedModel(folder, CPU, threads=1, cuda_graphs=True)
    layer = 64 * (64 + 32 + 32) + 64 * 64 + 3 * 64 * 96
    norms = 64 * (2 * TINY.layers + 1)
    matrices = 4 * (TINY.layers * layer + norms + 512 * 64)
    assert 0 <= model.bytes_read - matrices < 1000  # and constants of a few bytes


def test_a_copy_has_a_bandwidth() -> None:
    assert measures.copy_bandwidth(HostMemory(), 1 << 16) > 0


def test_weights_are_the_same_each_time_and_none_like_another() -> None:
    source = RandomSource(TINY)
    first, again, second = source.layer(0), RandomSource(TINY).layer(0), source.layer(1)
    np.testing.assert_array_equal(first.q, again.q)
    assert not np.array_equal(first.q, second.q)
    assert not np.array_equal(first.k, first.v)
    assert abs(first.down.std() * 96**0.5 - 1) < 0.05
    assert LLAMA_8B.layers == 32
    assert ON_A_GPU.visitors == 200


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
    assert "cuda:0 cannot be had" in run.stderr
    assert not (tmp_path / "found.json").exists()
