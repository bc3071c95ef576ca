"""A model folder is read in the ecosystem's own terms, or refused in one line that says why."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.config import DeviceKind, SamplingParameters
from server.errors import StartError
from server.model.folder import ModelFolder


def folder(path: Path, **documents: object) -> Path:
    """A folder that can be read, with `documents` (file name without `.json`: content) in it."""
    for name in ("model.onnx", "tokenizer.json"):
        (path / name).write_bytes(b"")
    documents = {"config": {"max_position_embeddings": 100, "eos_token_id": 2}} | documents
    for name, content in documents.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (path / f"{name}.json").write_text(text)
    return path


def test_a_folder_needs_little(tmp_path: Path) -> None:
    assert ModelFolder.read(folder(tmp_path)) == ModelFolder(
        path=tmp_path,
        model_file=tmp_path / "model.onnx",
        tokenizer_file=tmp_path / "tokenizer.json",
        context_length=100,
        eos_token_ids=frozenset({2}),
        sampling=SamplingParameters(),
        target=None,
    )


def test_what_genai_exports_needs_no_other_document(tmp_path: Path) -> None:
    model = {"context_length": 50, "eos_token_id": [3, 4], "decoder": {"filename": "model.onnx"}}
    path = folder(tmp_path, genai_config={"model": model})
    (path / "config.json").unlink()
    read = ModelFolder.read(path)
    assert (read.context_length, read.eos_token_ids) == (50, frozenset({3, 4}))
    (path / "genai_config.json").write_text("{}")
    with pytest.raises(StartError, match=r"not a model folder: config\.json is missing"):
        ModelFolder.read(path)


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        (2, 3, {3}),
        (2, [3, 4], {3, 4}),
        ([1, 2], None, {1, 2}),
        (2, [], {2}),
        (None, None, set()),
        (None, 0, {0}),
    ],
)
def test_the_generation_config_knows_better_what_ends_a_text(
    tmp_path: Path, config: object, generation: object, expected: set[int]
) -> None:
    path = folder(
        tmp_path,
        config={"max_position_embeddings": 2, "eos_token_id": config},
        generation_config={"eos_token_id": generation},
    )
    assert ModelFolder.read(path).eos_token_ids == expected


def test_the_graph_is_where_genai_config_says(tmp_path: Path) -> None:
    genai = {"model": {"decoder": {"filename": "other.onnx"}}}
    path = folder(tmp_path, genai_config=genai)
    (path / "other.onnx").write_bytes(b"")
    assert ModelFolder.read(path).model_file == path / "other.onnx"


@pytest.mark.parametrize("name", [".", "", "../model.onnx", "/model.onnx"])
def test_the_graph_is_a_file_of_the_folder(tmp_path: Path, name: str) -> None:
    folder(tmp_path, genai_config={"model": {"decoder": {"filename": name}}})
    assert f"filename must be a file inside the folder, not '{name}'" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("providers", "target"),
    [
        (None, DeviceKind.CPU),
        ([], DeviceKind.CPU),
        ([{"cpu": {}}], DeviceKind.CPU),
        ([{"cuda": {"enable_cuda_graph": "1"}}], DeviceKind.CUDA),
        ([{"webgpu": {}}], None),
    ],
)
def test_genai_config_says_what_the_graph_is_made_for(
    tmp_path: Path, providers: object, target: DeviceKind | None
) -> None:
    options = {"session_options": {"provider_options": providers}}
    path = folder(tmp_path, genai_config={"model": {"decoder": options}})
    assert ModelFolder.read(path).target is target


@pytest.mark.parametrize("providers", ["cuda", {"cuda": {}}, ["cuda"]])
def test_providers_that_are_none_are_refused(tmp_path: Path, providers: object) -> None:
    options = {"session_options": {"provider_options": providers}}
    path = folder(tmp_path, genai_config={"model": {"decoder": options}})
    with pytest.raises(StartError, match="provider_options must be a list of objects"):
        ModelFolder.read(path)


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        ({}, SamplingParameters()),
        ({"temperature": 0.6, "top_p": 0.9, "top_k": 40}, SamplingParameters()),  # no `do_sample`
        ({"do_sample": False, "temperature": 0.6}, SamplingParameters()),
        ({"do_sample": None, "temperature": None}, SamplingParameters()),
        ({"do_sample": True}, SamplingParameters(temperature=1.0)),
        (
            {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.9, "min_p": 0.1},
            SamplingParameters(temperature=0.6, top_k=20, top_p=0.9, min_p=0.1),
        ),
        ({"do_sample": True, "temperature": 1, "top_p": 1}, SamplingParameters(temperature=1.0)),
        ({"repetition_penalty": 1.1}, SamplingParameters(repetition_penalty=1.1)),
        (
            {"do_sample": True, "repetition_penalty": 1.1},
            SamplingParameters(temperature=1.0, repetition_penalty=1.1),
        ),
    ],
)
def test_the_generation_config_means_what_transformers_means(
    tmp_path: Path, generation: dict[str, Any], expected: SamplingParameters
) -> None:
    path = folder(tmp_path, generation_config=generation)
    assert ModelFolder.read(path).sampling == expected


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.onnx"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    (folder(tmp_path) / missing).unlink()
    assert refusal(tmp_path) == f"{tmp_path}: not a model folder: {missing} is missing"


@pytest.mark.parametrize("name", ["model.onnx.data", "model.onnx", "deep/weights"])
def test_a_hard_link_is_refused(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    path = tmp_path / "model"
    path.mkdir()
    linked = folder(path) / name
    linked.parent.mkdir(exist_ok=True)
    linked.unlink(missing_ok=True)
    linked.hardlink_to(outside)
    assert f"{linked}: has another name, a hard link" in refusal(path)


def test_no_folder_and_no_model_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such folder"
    (tmp_path / "model.gguf").write_text("")
    assert "skiff-export makes a model folder of" in refusal(tmp_path / "model.gguf")


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (folder(tmp_path) / "generation_config.json").mkdir()
    assert "generation_config.json: " in refusal(tmp_path)


CONFIGS = [
    ("", "JSON"),
    ("{", "JSON"),
    ("[" * 100_000, "JSON"),
    ("\\ud800", "JSON"),
    ("[]", "is not a JSON object"),
    ("null", "is not a JSON object"),
    ({}, "max_position_embeddings must be an integer of at least 2, not None"),
    ({"max_position_embeddings": 0}, "of at least 2, not 0"),
    ({"max_position_embeddings": 1}, "of at least 2, not 1"),
    ({"max_position_embeddings": "8"}, "of at least 2, not '8'"),
    ({"max_position_embeddings": 8.0}, "of at least 2, not 8.0"),
    ({"max_position_embeddings": True}, "of at least 2, not True"),
    ({"max_position_embeddings": 8, "eos_token_id": "</s>"}, "eos_token_id must be a token id"),
    ({"max_position_embeddings": 8, "eos_token_id": [1, None]}, "eos_token_id must be"),
    ({"max_position_embeddings": 8, "eos_token_id": True}, "eos_token_id must be"),
]


@pytest.mark.parametrize(("content", "reason"), CONFIGS)
def test_a_bad_config_is_refused(tmp_path: Path, content: object, reason: str) -> None:
    message = refusal(folder(tmp_path, config=content))
    assert message.startswith(f"{tmp_path / 'config.json'}: ")
    assert reason in message


def test_a_config_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (folder(tmp_path) / "config.json").write_bytes(b"\xff\xfe\x00{")
    assert refusal(tmp_path).startswith(f"{tmp_path / 'config.json'}: ")


@pytest.mark.parametrize(
    ("generation", "reason"),
    [
        ({"do_sample": "yes"}, "do_sample must be true or false, not 'yes'"),
        ({"do_sample": 1}, "do_sample must be true or false"),
        ({"repetition_penalty": "1.1"}, "repetition_penalty must be"),
        ({"repetition_penalty": 0}, "repetition_penalty must be"),
        ({"repetition_penalty": -1}, "repetition_penalty must be"),
        ({"do_sample": True, "temperature": True}, "temperature must be"),
        ({"do_sample": True, "temperature": -0.5}, "temperature must be"),
        ({"do_sample": True, "top_k": 2.5}, "top_k must be"),
        ({"do_sample": True, "top_k": -1}, "top_k must be"),
        ({"do_sample": True, "top_p": 1.5}, "top_p must be"),
        ({"do_sample": True, "top_p": 0}, "top_p must be"),
        ({"do_sample": True, "top_p": -0.1}, "top_p must be"),
        ({"do_sample": True, "min_p": 1.5}, "min_p must be"),
        ('{"do_sample": true, "top_k": Infinity}', "top_k must be"),
        ('{"do_sample": true, "temperature": NaN}', "temperature must be"),
        ('{"do_sample": true, "temperature": 1e999}', "temperature must be"),
        ({"do_sample": True, "temperature": 10**400}, "temperature must be"),
        ({"eos_token_id": {}}, "eos_token_id must be"),
    ],
)
def test_a_bad_generation_config_is_refused(
    tmp_path: Path, generation: object, reason: str
) -> None:
    message = refusal(folder(tmp_path, generation_config=generation))
    assert message.startswith(f"{tmp_path / 'generation_config.json'}: ")
    assert reason in message


@pytest.mark.parametrize(
    "filename", [7, ["model.onnx"], "", "../model.onnx", "/model.onnx", "x" * 5000]
)
def test_a_bad_genai_config_is_refused(tmp_path: Path, filename: object) -> None:
    genai = {"model": {"decoder": {"filename": filename}}}
    assert refusal(folder(tmp_path, genai_config=genai))


def refusal(path: Path) -> str:
    """The one line."""
    with pytest.raises(StartError) as raised:
        ModelFolder.read(path)
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    return message
