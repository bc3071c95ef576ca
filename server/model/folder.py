"""The model folder: what its JSON documents say, as one frozen value.

Knows file names and Hugging Face's vocabulary for them; does not open the graph or the tokenizer.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.config import DeviceKind, SamplingParameters
from server.errors import StartError

_ABOVE_ZERO = 1e-6
SAMPLING_BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0, 1e6),
    "top_p": (_ABOVE_ZERO, 1),
    "min_p": (0, 1),
    "repetition_penalty": (_ABOVE_ZERO, 1e6),
}
"""Inclusive bounds of numbers in `generation_config.json`."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A decoder-only model on disk."""

    path: Path
    model_file: Path
    tokenizer_file: Path
    context_length: int
    """Tokens that the model was made for."""
    eos_token_ids: frozenset[int]
    """Ids that end a text."""
    sampling: SamplingParameters
    """The folder's own defaults; greedy where it has none."""
    target: DeviceKind | None
    """The kind of device that the graph is made for; None if the folder does not say."""

    @classmethod
    def read(cls, path: Path) -> "ModelFolder":
        """Raises `StartError` with one line that names the file and the reason."""
        try:
            return cls._read(path)
        except OSError as error:  # a name that is too long, a folder without permission
            raise StartError(f"{error.filename}: {error.strerror}") from None

    @classmethod
    def _read(cls, path: Path) -> "ModelFolder":
        if path.is_file():
            raise StartError(f"{path}: a file; skiff-export makes a model folder of a GGUF file")
        if not path.is_dir():
            raise StartError(f"{path}: no such folder")
        generation = _Document.read_if_there(path / "generation_config.json")
        genai = _Document.read_if_there(path / "genai_config.json")
        # ONNX Runtime GenAI's own exports have no other document.
        read_config = _Document.read_if_there if genai.content else _Document.read
        config = read_config(path / "config.json")
        if genai.content and not config.content:
            context_length = genai.integer("model.context_length", low=2)
        else:
            context_length = config.integer("max_position_embeddings", low=2)
        model_file = path / genai.path("model.decoder.filename", "model.onnx")
        folder = cls(
            path=path,
            model_file=model_file,
            tokenizer_file=path / "tokenizer.json",
            context_length=context_length,
            eos_token_ids=generation.token_ids("eos_token_id")
            or config.token_ids("eos_token_id")
            or genai.token_ids("model.eos_token_id"),
            sampling=_sampling(generation),
            target=_target(genai),
        )
        for file in (folder.model_file, folder.tokenizer_file):
            if not file.is_file():
                raise StartError(f"{path}: not a model folder: {file.name} is missing")
        _refuse_hard_links(path)
        return folder


def _refuse_hard_links(folder: Path) -> None:
    """Raises `StartError` for a hard link. Its other name may lie anywhere, so an unpacked folder
    could make the runtime read a file of somebody else's. A symbolic link shows its target, which
    the runtime checks."""
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_nlink > 1:
            raise StartError(
                f"{file}: has another name, a hard link, which may lie outside of the folder;"
                " a copy of the folder (cp -r) has none"
            )


def _target(genai: "_Document") -> DeviceKind | None:
    """Reads it from ONNX Runtime GenAI's document, which lists providers besides the CPU's."""
    if not genai.content:
        return None
    name = "model.decoder.session_options.provider_options"
    providers = {provider for options in genai.objects(name) for provider in options}
    if providers <= {"cpu"}:
        return DeviceKind.CPU
    return DeviceKind.CUDA if "cuda" in providers else None


def _sampling(generation: "_Document") -> SamplingParameters:
    """Reads `generation_config.json`: greedy unless `do_sample`, as in `transformers`. A setting
    that is missing is off."""

    def number(name: str, default: float) -> float:
        return generation.number(name, default, *SAMPLING_BOUNDS[name])

    penalty = number("repetition_penalty", 1.0)
    if not generation.flag("do_sample"):
        return SamplingParameters(repetition_penalty=penalty)
    return SamplingParameters(
        temperature=number("temperature", 1.0),
        top_k=generation.integer("top_k", default=0, low=0),
        top_p=number("top_p", 1.0),
        min_p=number("min_p", 0.0),
        repetition_penalty=penalty,
    )


@dataclass(frozen=True, slots=True)
class _Document:
    """One JSON file; a dotted name goes into nested objects. A null counts as absent."""

    file: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> "_Document":
        try:
            content = json.loads(file.read_bytes())
        except FileNotFoundError:
            raise StartError(f"{file.parent}: not a model folder: {file.name} is missing") from None
        except (OSError, ValueError, RecursionError) as error:
            raise StartError(f"{file}: cannot be read as JSON: {error}") from None
        if not isinstance(content, dict):
            raise StartError(f"{file}: is not a JSON object")
        return cls(file, content)

    @classmethod
    def read_if_there(cls, file: Path) -> "_Document":
        return cls.read(file) if file.exists() else cls(file, {})

    def find(self, name: str) -> Any:
        value: Any = self.content
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def text(self, name: str, default: str) -> str:
        value = self.find(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(name, "a string")
        return value

    def path(self, name: str, default: str) -> Path:
        """A path that stays inside the folder."""
        path = Path(self.text(name, default))
        if not path.name or path.is_absolute() or ".." in path.parts:
            raise self._wrong(name, "a file inside the folder")
        return path

    def integer(self, name: str, *, low: int, default: int | None = None) -> int:
        value = self.find(name)
        if value is None and default is not None:
            return default
        if type(value) is not int or value < low:
            raise self._wrong(name, f"an integer of at least {low}")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self.find(name)
        if value is None:
            return default
        # Python reads NaN and Infinity in JSON; neither is between two numbers.
        if type(value) not in (int, float) or not low <= value <= high:
            raise self._wrong(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.find(name)
        if not isinstance(value, bool | None):
            raise self._wrong(name, "true or false")
        return bool(value)

    def objects(self, name: str) -> list[dict[str, Any]]:
        value = self.find(name)
        if value is None:
            return []
        if not isinstance(value, list) or any(not isinstance(each, dict) for each in value):
            raise self._wrong(name, "a list of objects")
        return value

    def token_ids(self, name: str) -> frozenset[int]:
        """One id or a list of them: both are common in such documents."""
        value = self.find(name)
        ids = [] if value is None else value if isinstance(value, list) else [value]
        if any(type(token) is not int for token in ids):
            raise self._wrong(name, "a token id or a list of them")
        return frozenset(ids)

    def _wrong(self, name: str, expected: str) -> StartError:
        return StartError(f"{self.file}: {name} must be {expected}, not {self.find(name)!r}")
