"""The device, the scale and the time limit of a part, and how its models are made."""

import time
from dataclasses import dataclass
from pathlib import Path

from model_tools.decoder_spec import WeightSource
from model_tools.gpu_check.loaded import LoadedModel, exported
from model_tools.gpu_check.shapes import Scale
from model_tools.progress import Report
from model_tools.recipe import CUDA_BLOCK_SIZE, KvLayout, KvType, Recipe, Target, WeightType
from server.config import Device
from server.cores import usable_cores
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder


@dataclass(frozen=True, slots=True)
class Kind:
    """Types and KV layout that a model is exported with."""

    weights: WeightType
    kv_layout: KvLayout = KvLayout.SLOTS
    kv: KvType = KvType.FLOAT

    def __str__(self) -> str:
        kept = f" kv {self.kv}" if self.kv is not KvType.FLOAT else ""
        where = f" {self.kv_layout}" if self.kv_layout is not KvLayout.SLOTS else ""
        return f"{self.weights}{kept}{where}"

    @property
    def is_near(self) -> bool:
        """Whether a comparison with fp32 can reveal mistakes: the rounding of 4 bits hides them."""
        return self.weights is not WeightType.INT4

    @property
    def is_16_bit(self) -> bool:
        """Whether weights, keys and values all have 16 bits."""
        return not self.weights.is_integer and self.kv is KvType.FLOAT

    def recipe(self) -> Recipe:
        return Recipe.of(Target.CUDA, self.weights, None, None, self.kv, self.kv_layout)


@dataclass(frozen=True, slots=True)
class Setting:
    """The device, the scale and the time limit of a part."""

    device: Device
    scale: Scale
    models_folder: Path
    """The folder in which models are made, for later parts to reuse."""
    begun: float
    """When the part began, in `time.monotonic`'s seconds."""
    seconds: float
    """Time limit of the part; nothing is begun after it."""
    report: Report
    default_model: Path | None
    """The GGUF file of SmolLM2, if there is one."""

    @property
    def end(self) -> float:
        """When nothing more is begun, in `time.monotonic`'s seconds."""
        return self.begun + self.seconds

    def left(self, share: float = 1.0) -> float:
        """Seconds left of the first `share` of the part's time."""
        return self.begun + share * self.seconds - time.monotonic()

    @property
    def kinds(self) -> list[Kind]:
        """Kinds whose speed is measured at all batch sizes. Pages are measured with the
        first weights only, which shows what they cost or gain."""
        pages = Kind(self.scale.weights[0], KvLayout.PAGES)
        return [*(Kind(weights) for weights in self.scale.weights), pages]

    @property
    def further_kinds(self) -> list[Kind]:
        """Further kinds, for the small model only."""
        kept = Kind(self.scale.weights[0], kv=KvType.INT8)
        return [Kind(WeightType.BF16), Kind(WeightType.INT8), kept]

    def made(
        self, name: str, source: WeightSource, kind: Kind, *, cuda_graphs: bool = True
    ) -> LoadedModel:
        """Makes a model and loads it on the device. Raises `StartError`."""
        folder = self._exported(name, source, kind)
        threads = usable_cores()
        return LoadedModel(folder, self.device, threads=threads, cuda_graphs=cuda_graphs)

    def on_the_cpu(self, name: str, source: WeightSource, slots: int, context: int) -> CpuDecoder:
        """Makes the same model in fp32, and opens the CPU's own decoder for it."""
        recipe = Recipe(WeightType.FP32, CUDA_BLOCK_SIZE)
        folder = exported(self.models_folder, f"{name}-cpu", source, recipe, self.report)
        return CpuDecoder(folder, slots=slots, context=context, threads=usable_cores())

    def _exported(self, name: str, source: WeightSource, kind: Kind) -> ModelFolder:
        folder = f"{name}-{kind}".replace(" ", "-")
        return exported(self.models_folder, folder, source, kind.recipe(), self.report)
