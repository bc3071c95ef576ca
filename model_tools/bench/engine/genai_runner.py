"""Runs workloads on ONNX Runtime GenAI: its own generator and search, on the same folder.

Knows onnxruntime_genai, an optional dependency.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from model_tools.bench.engine.workload import Prompts, Runner, Timing
from server.errors import StartError

# Both runtimes read this when imported; without it they send telemetry to their maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime_genai

    MISSING = ""
except ImportError as error:  # also of a library that it needs
    onnxruntime_genai = None
    MISSING = f"onnxruntime-genai cannot be imported ({error}): pip install 'skiff-llm[genai]'"

SPINNING = "session.intra_op.allow_spinning"


class GenaiRunner:
    """Greedy search; past and present share a KV buffer, as the folder's configuration says."""

    name = "genai"

    def __init__(self, folder: Path, *, threads: int, spinning: bool = True) -> None:
        """With `spinning`, ONNX Runtime's default, threads wait without sleeping. Raises
        `StartError`."""
        if onnxruntime_genai is None:
            raise StartError(MISSING)
        self.setting = f"{threads} threads, {'spinning' if spinning else 'not spinning'}"
        session = {"intra_op_num_threads": threads, SPINNING: str(int(spinning))}
        try:
            config = onnxruntime_genai.Config(str(folder))
            config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
            self._model = onnxruntime_genai.Model(config)
            self._tokenizer = onnxruntime_genai.Tokenizer(self._model)
        except Exception as error:  # the library raises bare exceptions
            raise StartError(f"{folder}: onnxruntime-genai cannot load it: {error}") from None

    def read(self, prompts: Prompts, new_tokens: int) -> Timing:
        """Does not time the generator's creation, which allocates its buffers."""
        generator = self._generator(prompts, new_tokens)
        texts = self._texts(prompts)
        begin = time.perf_counter()
        generator.append_tokens(prompts.astype(np.int32))
        for _ in range(new_tokens):
            _step(generator, texts)
        return Timing(time.perf_counter() - begin)

    def generate(self, prompts: Prompts, new_tokens: int) -> Timing:
        generator = self._generator(prompts, new_tokens + 1)
        texts = self._texts(prompts)
        generator.append_tokens(prompts.astype(np.int32))
        _step(generator, texts)
        begin = time.perf_counter()
        for _ in range(new_tokens):
            _step(generator, texts)
        return Timing(time.perf_counter() - begin)

    def _texts(self, prompts: Prompts) -> list["onnxruntime_genai.TokenizerStream"]:
        return [self._tokenizer.create_stream() for _ in prompts]

    def _generator(self, prompts: Prompts, new_tokens: int) -> "onnxruntime_genai.Generator":
        streams, given = prompts.shape
        length = given + new_tokens
        parameters = onnxruntime_genai.GeneratorParams(self._model)
        parameters.set_search_options(
            batch_size=streams,
            do_sample=False,
            top_k=1,
            max_length=length,
            min_length=length,  # so that the end of text does not stop it
        )
        return onnxruntime_genai.Generator(self._model, parameters)


def _step(
    generator: "onnxruntime_genai.Generator", texts: list["onnxruntime_genai.TokenizerStream"]
) -> None:
    """Generates a token and its text for each stream, as in the library's own examples."""
    generator.generate_next_token()
    for text, token in zip(texts, generator.get_next_tokens(), strict=True):
        text.decode(token)


class Fastest:
    """Runs each task on whichever of several runners was fastest when the task first came: each ran
    it once to warm up, and the faster of two further runs counts."""

    name = "genai"

    def __init__(self, candidates: Sequence[Runner]) -> None:
        self._candidates = candidates
        self._chosen: dict[object, Runner] = {}
        self.setting = ""

    def read(self, prompts: Prompts, new_tokens: int) -> Timing:
        task = ("read", prompts.shape, new_tokens)
        return self._fastest(task, lambda runner: runner.read(prompts, new_tokens))

    def generate(self, prompts: Prompts, new_tokens: int) -> Timing:
        task = ("generate", prompts.shape, new_tokens)
        return self._fastest(task, lambda runner: runner.generate(prompts, new_tokens))

    def _fastest(self, task: object, run: Callable[[Runner], Timing]) -> Timing:
        if task not in self._chosen:
            self._chosen[task] = min(
                self._candidates, key=lambda runner: _best_seconds(runner, run)
            )
        chosen = self._chosen[task]
        self.setting = chosen.setting
        return run(chosen)


def _best_seconds(runner: Runner, run: Callable[[Runner], Timing]) -> float:
    _, *timed = [run(runner).seconds for _ in range(3)]
    return min(timed)


def sweep(folder: Path, threads: int) -> Fastest:
    """Tries as many threads as Skiff has and one less, each with and without spinning. Raises
    `StartError`."""
    counts = {threads, max(threads - 1, 1)}
    return Fastest(
        [
            GenaiRunner(folder, threads=number, spinning=spinning)
            for number in sorted(counts)
            for spinning in (True, False)
        ]
    )
