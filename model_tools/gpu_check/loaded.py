"""A model loaded on the device, and decoders for it, one at a time.

Knows how a decoder is opened and whether it fits; does not know what it is for.
"""

from pathlib import Path

import onnx_ir as ir

from model_tools.decoder_spec import WeightSource
from model_tools.export import MODEL_FILE, write_model
from model_tools.folder_format import FORMAT_VERSION
from model_tools.gpu_check.streams import random_prompt
from model_tools.progress import Report, steps
from model_tools.recipe import KvType, Recipe
from model_tools.weights.kv_scales import balanced
from server.config import Device, SamplingParameters
from server.errors import DeviceLost, StartError
from server.model.folder import ModelFolder
from server.model.gpu.decode_ahead import TRUSTED
from server.model.gpu.decoder import DeviceDecoder
from server.model.gpu.memory import DeviceMemory
from server.model.gpu.opening import memory_of
from server.model.gpu.sessions import open_session, run_options
from server.model.graph_interface import GraphInterface

_SPARE = 1 << 30
"""Bytes of device memory that are left to the runtime."""
_GRAPHS_EACH = 10_000
"""Size of the range of CUDA graph ids that each decoder has to itself."""
_MEASURED = 64
"""Tokens of each text on which keys and values are measured, to scale them."""
_MEASURED_SEEDS = (1000, 1001)


class DoesNotFit(Exception):
    """There is too little memory; the message says what was needed."""


def exported(
    parent: Path, name: str, source: WeightSource, recipe: Recipe, report: Report
) -> ModelFolder:
    """Exports the graph, and nothing else, into a folder in `parent`, unless it is there."""
    folder = parent / f"{name}-v{FORMAT_VERSION}"
    if not (folder / MODEL_FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{MODEL_FILE}.data").unlink(missing_ok=True)
        if recipe.kv is KvType.INT8:
            source = _balanced(source, report)
        write_model(folder, source, recipe, report)
    return ModelFolder(
        path=folder,
        model_file=folder / MODEL_FILE,
        tokenizer_file=folder / "tokenizer.json",
        context_length=source.spec.context_length,
        eos_token_ids=frozenset(),
        sampling=SamplingParameters(),
        target=None,
    )


def _balanced(source: WeightSource, report: Report) -> WeightSource:
    """Adds scales for integer keys and values, measured on tokens that no check uses."""
    spec = source.spec
    texts = [random_prompt(spec.vocabulary_size, _MEASURED, seed) for seed in _MEASURED_SEEDS]
    return balanced(source, texts, steps(report, "measuring keys and values", spec.layers))


def _bytes_read(folder: ModelFolder) -> int:
    """Bytes of weights that a decode step must read, whatever the number of rows."""
    graph = ir.load(folder.model_file).graph
    tied = not any(name.startswith("head.") for name in graph.initializers)
    others = ("rotary.",) if tied else ("rotary.", "embedding.")
    return sum(
        value.const_value.nbytes
        for name, value in graph.initializers.items()
        if value.const_value is not None
        and not name.startswith(others)
        and not name.endswith(".table")  # shares the bytes of another initializer
    )


class LoadedModel:
    """A model's session, which all its decoders use, since loading weights takes long."""

    def __init__(
        self, folder: ModelFolder, device: Device, *, threads: int, cuda_graphs: bool
    ) -> None:
        """Raises `StartError`."""
        self.bytes_read = _bytes_read(folder)
        """Bytes of weights that a decode step must read."""
        self._cuda_graphs = cuda_graphs
        self._name = str(folder.model_file)
        self.memory: DeviceMemory = memory_of(device)
        self._session = open_session(
            folder.model_file,
            device,
            threads,
            cuda_graphs=cuda_graphs,
            stream=self.memory.stream,
        )
        self._graph = GraphInterface.of(self._session, self._name)
        self._decoders = 0

    def decoder(
        self, *, slots: int, context: int, ahead_threshold: float = TRUSTED
    ) -> DeviceDecoder:
        """Opens a decoder and warms it up. Earlier ones must be deleted before. Raises
        `DoesNotFit`, `StartError` and `DeviceLost`."""
        token = sum(shape.token_bytes for shape in self._graph.kv)
        page = self._graph.page_tokens or 1
        kv_bytes = slots * -(-context // page) * page * token
        logits = 4 * slots * self._graph.vocabulary_size
        if kv_bytes + logits + _SPARE > self.memory.free_bytes:
            raise DoesNotFit(
                f"{kv_bytes / 2**30:.1f} GiB of keys and values,"
                f" {self.memory.free_bytes / 2**30:.1f} free"
            )
        self._decoders += 1
        first = self._decoders * _GRAPHS_EACH
        try:
            decoder = DeviceDecoder(
                self._session,
                self.memory,
                lambda graph: run_options(None if graph is None else first + graph),
                name=self._name,
                slots=slots,
                context=context,
                cuda_graphs=self._cuda_graphs,
                ahead_threshold=ahead_threshold,
            )
        except MemoryError as error:
            raise DoesNotFit(str(error)) from None
        try:
            decoder.warm_up()
        except StartError as error:
            self._check_device(error)
            raise
        return decoder

    def _check_device(self, reason: StartError) -> None:
        """Raises `DeviceLost` if nothing works on the device any more."""
        try:
            self.memory.settle()
        except RuntimeError:
            raise DeviceLost(str(reason)) from reason
