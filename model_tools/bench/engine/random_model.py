"""A model of a folder's shape, with random weights and a vocabulary of any size: the cost of a step
and of sampling does not depend on the values of the weights.

Knows a folder's documents and how graphs are made; does not know what is measured.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model_tools.decoder_spec import DecoderSpec, RotarySpec
from model_tools.default_model import BLOCK_SIZE
from model_tools.export import write_model
from model_tools.recipe import Recipe, WeightType
from model_tools.weights.random_source import RandomSource
from server.config import DeviceKind
from server.errors import StartError

RECIPE = Recipe(WeightType.INT8, BLOCK_SIZE[DeviceKind.CPU])
"""The recipe of the model that `scripts/serve` makes."""


@contextmanager
def random_model(folder: Path, vocabulary_size: int) -> Iterator[Path]:
    """Makes a complete model folder, and deletes it after the block. Tokens that the original
    tokenizer does not have are without text. Raises `StartError`."""
    with tempfile.TemporaryDirectory(prefix="skiff-bench-") as parent:
        made = Path(parent, f"random-{vocabulary_size}")
        made.mkdir()
        try:
            spec = _with_vocabulary(folder, made, vocabulary_size)
            shutil.copy(folder / "tokenizer.json", made)
            write_model(made, RandomSource(spec), RECIPE)
        except MemoryError as error:
            raise StartError(f"--vocabulary: there is too little memory for it: {error}") from None
        except OSError as error:
            raise StartError(f"{error.filename or made}: {error.strerror or error}") from None
        except (LookupError, TypeError, ValueError) as error:
            raise StartError(f"{folder}: not a folder of skiff-export: {error!r}") from None
        yield made


def _with_vocabulary(folder: Path, made: Path, vocabulary_size: int) -> DecoderSpec:
    """Writes the documents that state the vocabulary's size, and returns the new shape."""
    config = json.loads((folder / "config.json").read_text())
    genai = json.loads((folder / "genai_config.json").read_text())
    config["vocab_size"] = genai["model"]["vocab_size"] = vocabulary_size
    (made / "config.json").write_text(json.dumps(config))
    (made / "genai_config.json").write_text(json.dumps(genai))
    return _spec(config)


def _spec(config: dict[str, Any]) -> DecoderSpec:
    return DecoderSpec(
        layers=config["num_hidden_layers"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        attention_heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        vocabulary_size=config["vocab_size"],
        context_length=config["max_position_embeddings"],
        rms_epsilon=config["rms_norm_eps"],
        rotary=RotarySpec(config["rope_theta"], config["head_dim"]),
        tied_embedding=config["tie_word_embeddings"],
    )
