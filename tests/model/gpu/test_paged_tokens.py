"""The decoder over pages for real, on the CPU as a device and with a stand-in for the operator: its
tokens are those that it gives over slots."""

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_tools.export import write_model
from model_tools.gguf.source import GgufSource
from model_tools.recipe import KvLayout, Recipe, Target, WeightType
from server.config import CPU, SamplingParameters
from server.model.folder import ModelFolder
from server.model.gpu.decoder import DeviceDecoder
from server.model.gpu.opening import open_device_decoder
from tests.engine.fake_decoder import VOCABULARY
from tests.model.generating import generated
from tests.model.gpu.paged_attention import stand_in
from tests.model.tiny_folder import CONTEXT, tiny_folder

SLOTS = 5
TEXT = np.random.default_rng(0).integers(0, VOCABULARY, 256)
PAGE_TOKENS = 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFolder, ModelFolder]:
    """One fp32 model, with slots and with pages."""
    place = tmp_path_factory.mktemp("paged")
    cpu = tiny_folder(place / "tiny", "fp32")
    source = GgufSource.open(place / "tiny/tiny.gguf")
    for layout in KvLayout:
        folder = place / layout
        shutil.copytree(cpu, folder, ignore=shutil.ignore_patterns("model.onnx*"))
        recipe = Recipe(WeightType.FP32, 32, Target.CUDA, kv_layout=layout)
        write_model(folder, source, recipe)
    stand_in(place / KvLayout.PAGES / "model.onnx", PAGE_TOKENS)
    return ModelFolder.read(place / KvLayout.SLOTS), ModelFolder.read(place / KvLayout.PAGES)


@pytest.fixture(scope="module")
def decoders(
    folders: tuple[ModelFolder, ModelFolder],
) -> Iterator[tuple[DeviceDecoder, DeviceDecoder]]:
    """Both with the CPU as a device."""
    slots, pages = (
        open_device_decoder(folder, CPU, slots=SLOTS, context=CONTEXT, threads=1, cuda_graphs=True)
        for folder in folders
    )
    for decoder in (slots, pages):
        decoder.warm_up()
    assert slots.pages is None
    assert pages.pages
    assert pages.pages.page_tokens == PAGE_TOKENS
    yield slots, pages
    assert pages.pages.free_pages == SLOTS * CONTEXT // PAGE_TOKENS


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=8),
    parameters=st.sampled_from(
        [
            SamplingParameters(),
            SamplingParameters(repetition_penalty=1.2),
            SamplingParameters(temperature=0.8, top_k=40, top_p=0.9, seed=3),
        ]
    ),
    draft=st.sampled_from([0, 3]),
)
def test_on_onnx_runtime_the_tokens_are_those_over_slots(
    decoders: tuple[DeviceDecoder, DeviceDecoder],
    lengths: list[int],
    parameters: SamplingParameters,
    draft: int,
) -> None:
    """The two operators round differently, by less than what parts two tokens here."""
    prompts = [TEXT[start % 2 * 9 :][:length] for start, length in enumerate(lengths)]
    slots, pages = (
        generated(decoder, prompts, parameters, 12, draft=draft) for decoder in decoders
    )
    assert slots == pages
