"""Writes a model folder's files beside the graph: configuration, tokenizer, chat templates."""

import json
from pathlib import Path

from model_tools.documents.genai_config import genai_config
from model_tools.documents.hf_config import (
    Document,
    generation_config,
    model_config,
    tokenizer_config,
)
from model_tools.documents.tokenizer_json import build_tokenizer
from model_tools.gguf.metadata import ChatTemplate
from model_tools.gguf.source import GgufSource
from model_tools.recipe import Recipe


def write_documents(
    folder: Path, source: GgufSource, recipe: Recipe, *, model_file: str = "model.onnx"
) -> None:
    """Writes into an existing folder; the same source and recipe give the same bytes."""
    spec, metadata = source.spec, source.metadata
    _write_json(folder / "config.json", model_config(spec, metadata, recipe.activations.torch))
    _write_json(folder / "generation_config.json", generation_config(metadata))
    genai = genai_config(spec, metadata, model_file, recipe)
    _write_json(folder / "genai_config.json", genai)
    _write_json(folder / "tokenizer_config.json", tokenizer_config(spec, metadata))
    tokenizer = build_tokenizer(metadata.vocabulary).to_str(pretty=True)
    _write(folder / "tokenizer.json", tokenizer + "\n")
    for template in metadata.chat_templates:
        _write_chat_template(folder, template)


def _write_chat_template(folder: Path, template: ChatTemplate) -> None:
    """Writes it where `transformers` looks for the default template, or for the others."""
    path = folder / "chat_template.jinja"
    if template.name != "default":
        path = folder / "additional_chat_templates" / f"{template.name}.jinja"
        path.parent.mkdir(exist_ok=True)
    _write(path, template.source)


def _write_json(path: Path, document: Document) -> None:
    _write(path, json.dumps(document, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
