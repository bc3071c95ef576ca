"""Verification of tiny models; the default model's figures are in `tests/test_golden.py`."""

import json
from dataclasses import asdict
from pathlib import Path
from unittest.mock import Mock

import pytest

from model_tools.export import export
from model_tools.gguf.source import GgufSource
from model_tools.recipe import Recipe, WeightType
from model_tools.verification import verify as verify_module
from model_tools.verification.text import PASSAGES
from model_tools.verification.verify import SHORTEST, Verification, verify
from server.errors import DeviceLost, StartError
from tests.model_tools.tiny_gguf import TinyLlama

FP32 = Recipe(WeightType.FP32, 32)


@pytest.fixture
def source(tmp_path: Path) -> GgufSource:
    return GgufSource.open(TinyLlama().write(tmp_path / "tiny.gguf"))


@pytest.fixture
def folder(tmp_path: Path, source: GgufSource) -> Path:
    """The tiny model, exported without rounding."""
    export(tmp_path / "tiny.gguf", tmp_path / "folder", weights="fp32", verify=False)
    return tmp_path / "folder"


def test_an_fp32_folder_is_its_source_to_the_last_digits(folder: Path, source: GgufSource) -> None:
    outcome = verify(folder, source, FP32)
    assert isinstance(outcome, Verification)
    assert outcome.how == "the graph ran on cpu"
    for way in (outcome.prompts, outcome.decode):
        assert way.mean_kl < 1e-9
        assert way.top1_agreement == 1
        assert way.tokens > 500


def test_the_outcome_is_in_the_folder(folder: Path, source: GgufSource) -> None:
    outcome = verify(folder, source, FP32)
    assert json.loads((folder / "verification.json").read_text()) == asdict(outcome)


@pytest.mark.parametrize(
    "other",
    [TinyLlama(seed=1), TinyLlama(keys={"llama.rope.freq_base": 500.0})],
    ids=["weights", "rotation"],
)
def test_a_folder_of_another_model_is_refused(
    folder: Path, tmp_path: Path, other: TinyLlama
) -> None:
    source = GgufSource.open(other.write(tmp_path / "other.gguf"))
    with pytest.raises(StartError, match="does not compute what its source says: mean KL"):
        verify(folder, source, FP32)
    assert not (folder / "verification.json").exists()


@pytest.mark.parametrize("error", [MemoryError, DeviceLost])
def test_a_device_that_cannot_verify_it_is_one_line(
    folder: Path, source: GgufSource, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU may be, which another process has filled."""
    full = Mock(side_effect=error("cudaMalloc on cuda:0: out of memory"))
    monkeypatch.setattr(verify_module, "open_decoder", full)
    with pytest.raises(StartError, match=r"^cannot verify it: cudaMalloc .*; --no-verify does"):
        verify(folder, source, FP32)


@pytest.mark.parametrize("context_length", [2, SHORTEST - 1])
def test_a_context_too_short_to_verify_is_refused(tmp_path: Path, context_length: int) -> None:
    gguf = TinyLlama(context_length=context_length).write(tmp_path / "short.gguf")
    with pytest.raises(StartError, match=rf"leaves {context_length}; --no-verify does without"):
        export(gguf, tmp_path / "folder")
    export(gguf, tmp_path / "folder", verify=False)


def test_the_shortest_context_is_verified(tmp_path: Path) -> None:
    gguf = TinyLlama(context_length=SHORTEST).write(tmp_path / "short.gguf")
    outcome = export(gguf, tmp_path / "folder", weights="fp32")
    assert isinstance(outcome, Verification)
    assert outcome.decode.tokens == len(PASSAGES)
