"""A GGUF file's metadata besides its decoder: vocabulary, chat templates, suggested sampling.

Keys that describe (name, licence, dataset and the like) and namespaces that no reader of a model
knows (a quantiser's own) are ignored; a key that would change the model's behaviour is read or
refused.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from model_tools.documents.end_of_generation import end_of_generation
from model_tools.gguf.keys import GgufKeys
from model_tools.gguf.vocabulary import Vocabulary, read_vocabulary
from server.model.folder import SAMPLING_BOUNDS

T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    name: str
    """"default", or its purpose, such as "tool_use"."""
    source: str
    """Jinja."""


@dataclass(frozen=True, slots=True)
class SuggestedSampling:
    """How the model's authors suggest to sample; None where they say nothing."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    vocabulary: Vocabulary
    end_of_generation: tuple[int, ...]
    """At least one token id; the file's `eos_token_id`, if any, comes first."""
    chat_templates: tuple[ChatTemplate, ...]
    sampling: SuggestedSampling


def read_metadata(keys: GgufKeys) -> ModelMetadata:
    """Raises StartError for another architecture or kind of file, and for an unknown key."""
    _check_kind(keys)
    vocabulary = read_vocabulary(keys)
    metadata = ModelMetadata(
        vocabulary=vocabulary,
        end_of_generation=end_of_generation(vocabulary),
        chat_templates=_chat_templates(keys),
        sampling=_sampling(keys),
    )
    if not metadata.end_of_generation:
        raise keys.error("no token ends a generation: tokenizer.ggml.eos_token_id is missing")
    keys.ignore(["tokenizer.huggingface.json"])  # the same vocabulary once more
    keys.refuse_unread("tokenizer.", "general.sampling.", "general.tensor_extra.", "adapter.")
    return metadata


def _check_kind(keys: GgufKeys) -> None:
    architecture = keys.text("general.architecture")
    if architecture != "llama":
        raise keys.error(f"the architecture {architecture!r} is not supported, only 'llama'")
    keys.refuse_unless("general.type", "model")
    # Version 2 changed how blocks of 4 and 8 bits lie in memory.
    keys.refuse_unless("general.quantization_version", 2)
    if keys.has("split.count") and keys.integer("split.count") > 1:
        raise keys.error("this is one part of a split model; join the parts with gguf-split")


def _chat_templates(keys: GgufKeys) -> tuple[ChatTemplate, ...]:
    plain, named = "tokenizer.chat_template", "tokenizer.chat_template."
    templates = [ChatTemplate("default", keys.text(plain))] if keys.has(plain) else []
    for key in keys.names(named):
        name = key.removeprefix(named)
        # It becomes a file's name; the default one has a key of its own.
        if not re.fullmatch(r"[A-Za-z0-9_]+", name) or name == "default":
            raise keys.error(f"{key!r} names no chat template")
        templates.append(ChatTemplate(name, keys.text(key)))
    keys.ignore(["tokenizer.chat_templates"])  # their names
    return tuple(templates)


def _sampling(keys: GgufKeys) -> SuggestedSampling:
    prefix = "general.sampling."
    keys.refuse_unless(f"{prefix}xtc_probability", 0.0)
    keys.refuse_unless(f"{prefix}mirostat", 0)
    keys.refuse_unless(f"{prefix}penalty_last_n", -1)
    unused = ("xtc_threshold", "mirostat_tau", "mirostat_eta")
    keys.ignore(prefix + name for name in unused)

    def suggested(name: str, read: Callable[[str], T], bounds: tuple[float, float]) -> T | None:
        key = prefix + name
        if not keys.has(key):
            return None
        value = read(key)
        if not bounds[0] <= value <= bounds[1]:
            raise keys.error(f"{key} = {value} is not from {bounds[0]:g} to {bounds[1]:g}")
        return value

    # The server, which reads these numbers from the folder, would refuse others.
    bounds = SAMPLING_BOUNDS
    return SuggestedSampling(
        temperature=suggested("temp", keys.number, bounds["temperature"]),
        top_k=suggested("top_k", keys.integer, (0, math.inf)),
        top_p=suggested("top_p", keys.number, bounds["top_p"]),
        min_p=suggested("min_p", keys.number, bounds["min_p"]),
        repetition_penalty=suggested("penalty_repeat", keys.number, bounds["repetition_penalty"]),
    )
