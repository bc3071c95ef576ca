"""ONNX Runtime GenAI under a workload: its own generator and search, on the same folder.

Knows onnxruntime_genai, an optional dependency.
"""

import json
import os
import time
from pathlib import Path

import numpy as np

from model_tools.bench.workload import Prompts
from server.errors import StartError

# Both runtimes read this when imported; without it they report to their maker what they run.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime_genai
except ModuleNotFoundError:
    onnxruntime_genai = None


class GenaiRunner:
    """Greedy search with keys and values in one shared buffer, as the folder's own configuration
    has it."""

    name = "genai"

    def __init__(self, folder: Path, *, threads: int) -> None:
        """Raises `StartError`."""
        if onnxruntime_genai is None:
            raise StartError("onnxruntime-genai is not installed: pip install 'skiff-llm[bench]'")
        try:
            config = onnxruntime_genai.Config(str(folder))
            options = {"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}
            config.overlay(json.dumps(options))
            self._model = onnxruntime_genai.Model(config)
        except Exception as error:  # the library raises bare exceptions
            raise StartError(f"{folder}: onnxruntime-genai cannot load it: {error}") from None

    def run(self, prompts: Prompts, new_tokens: int) -> float:
        """Making the generator, which allocates its buffers, is not timed."""
        streams, prompt_tokens = prompts.shape
        length = prompt_tokens + new_tokens
        parameters = onnxruntime_genai.GeneratorParams(self._model)
        parameters.set_search_options(
            batch_size=streams,
            do_sample=False,
            top_k=1,
            max_length=length,
            min_length=length,  # the end of text does not stop it
        )
        generator = onnxruntime_genai.Generator(self._model, parameters)
        start = time.perf_counter()
        generator.append_tokens(prompts.astype(np.int32))
        for _ in range(new_tokens):
            generator.generate_next_token()
        return time.perf_counter() - start
