"""Reads prompts to measure speculation with: `prompts.json`, or a file like it.

Knows the file's format; does not know how prompts are answered.
"""

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from server.errors import StartError

COMMITTED = Path(__file__).with_name("prompts.json")
"""In ChatML, the default model's chat template."""


class Kind(Enum):
    """How an answer relates to its prompt."""

    EDITING = "editing"
    """It repeats much of the prompt: edits and extracts."""
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Prompt:
    kind: Kind
    name: str
    text: str
    """The whole prompt, special tokens included."""


def read_prompts(file: Path) -> list[Prompt]:
    """Raises `StartError`."""
    try:
        content = json.loads(file.read_bytes())
        return [
            Prompt(kind, str(each["name"]), content["template"].replace("{}", each["text"]))
            for kind in Kind
            for each in content[kind.value]
        ]
    except OSError as error:
        raise StartError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StartError(
            f"{file}: must be JSON with a template and, in editing and free, names and texts"
        ) from None
