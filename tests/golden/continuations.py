"""The golden continuations, as values; `make.py` says where they come from."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Continuation:
    """A prompt and the tokens that float32 `transformers` chooses after it, greedily."""

    name: str
    prompt: str
    prompt_ids: list[int]
    generated_ids: list[int]
    margins: list[float]
    """Each chosen token's logit less the second best one's."""


CONTINUATIONS = [
    Continuation(**fields)
    for fields in json.loads(Path(__file__).with_name("smollm2-135m.json").read_text())
]
