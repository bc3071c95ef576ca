"""Runs a written graph with plain feeds: no shared buffers, nothing of the server."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model_tools.verification.reference import Rows, Tokens

Cache = dict[str, NDArray[np.float32]]


class PlainSession:
    def __init__(self, folder: Path, file: str = "model.onnx") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # hides a warning about the initializer of an input
        self.session = onnxruntime.InferenceSession(folder / file, options)
        self.outputs = [output.name for output in self.session.get_outputs()]

    def empty_cache(self, capacity: int) -> Cache:
        return {
            value.name: np.zeros((1, value.shape[1], capacity, value.shape[3]), np.float32)
            for value in self.session.get_inputs()
            if value.name.startswith("past_key_values.")
        }

    def run(self, tokens: Tokens, past: int, cache: Cache, keep: int | None) -> tuple[Rows, Cache]:
        """Reads tokens after `past` others; `keep` None leaves `num_logits_to_keep` its default."""
        feeds = {
            "input_ids": tokens[np.newaxis],
            "attention_mask": np.ones((1, past + len(tokens)), np.int64),
            **cache,
        }
        if keep is not None:
            feeds["num_logits_to_keep"] = np.array(keep)
        found = dict(zip(self.outputs, self.session.run(None, feeds), strict=True))
        logits = found.pop("logits")[0]
        return logits, {
            name.replace("present", "past_key_values"): value
            for name, value in found.items()
            if name.startswith("present")
        }

    def read(self, chunks: list[Tokens], capacity: int) -> Rows:
        """All logits of a text that is read in chunks."""
        cache, past, rows = self.empty_cache(capacity), 0, []
        for chunk in chunks:
            logits, cache = self.run(chunk, past, cache, keep=None)
            rows.append(logits)
            past += len(chunk)
        return np.concatenate(rows)
