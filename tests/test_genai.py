"""The exported folder in ONNX Runtime GenAI, which shares only the kernels with Skiff."""

import json
from pathlib import Path

import numpy as np
import onnxruntime_genai
import pytest

from server.cores import usable_cores
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder
from tests.golden.continuations import CONTINUATIONS
from tests.greedy import greedy

NEW_TOKENS = 64


@pytest.fixture(scope="module")
def genai_model(int8_folder: Path) -> onnxruntime_genai.Model:
    """With Skiff's number of threads, on which the rounding of sums depends."""
    config = onnxruntime_genai.Config(str(int8_folder))
    session_options = {"intra_op_num_threads": usable_cores()}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session_options}}}))
    return onnxruntime_genai.Model(config)


def genai_greedy(model: onnxruntime_genai.Model, prompt: list[int]) -> list[int]:
    """Generate up to the first end of text, which is left out."""
    parameters = onnxruntime_genai.GeneratorParams(model)
    parameters.set_search_options(do_sample=False, max_length=len(prompt) + NEW_TOKENS)
    generator = onnxruntime_genai.Generator(model, parameters)
    generator.append_tokens(np.array(prompt, np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)[len(prompt) :]]


def test_genai_gives_the_same_greedy_tokens(
    int8_folder: Path, genai_model: onnxruntime_genai.Model
) -> None:
    folder = ModelFolder.read(int8_folder)
    decoder = CpuDecoder(folder, slots=8, context=512, threads=usable_cores())
    prompts = [continuation.prompt_ids for continuation in CONTINUATIONS]
    for prompt, ours in zip(prompts, greedy(decoder, prompts, NEW_TOKENS), strict=True):
        theirs = genai_greedy(genai_model, prompt)
        assert theirs == ours[: len(theirs)]
        assert len(theirs) == NEW_TOKENS or ours[len(theirs)] in folder.eos_token_ids


def test_genai_gives_a_prompt_the_same_tokens(
    int8_folder: Path, genai_model: onnxruntime_genai.Model
) -> None:
    tokenizer = onnxruntime_genai.Tokenizer(genai_model)
    for continuation in CONTINUATIONS:
        assert tokenizer.encode(continuation.prompt).tolist() == continuation.prompt_ids
