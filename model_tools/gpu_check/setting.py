"""Where everything happens, how much of it, and until when; how models come to be there."""

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
    """What a model is made as."""

    weights: WeightType
    kv_layout: KvLayout = KvLayout.SLOTS
    kv: KvType = KvType.FLOAT

    def __str__(self) -> str:
        kept = f" kv {self.kv}" if self.kv is not KvType.FLOAT else ""
        where = f" {self.kv_layout}" if self.kv_layout is not KvLayout.SLOTS else ""
        return f"{self.weights}{kept}{where}"

    @property
    def is_near(self) -> bool:
        """Whether mistakes show beside the model in fp32: what 4 bits round away hides them."""
        return self.weights is not WeightType.INT4

    def recipe(self) -> Recipe:
        return Recipe.of(Target.CUDA, self.weights, None, None, self.kv, self.kv_layout)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how much."""

    device: Device
    scale: Scale
    place: Path
    """Where models are made, and found again by the next part."""
    begun: float
    """When the part began; in `time.monotonic`'s seconds, as all times here."""
    seconds: float
    """After so many, nothing more is begun."""
    report: Report
    default_model: Path | None
    """The GGUF file of SmolLM2, if it is at hand."""

    @property
    def end(self) -> float:
        """When nothing more is begun."""
        return self.begun + self.seconds

    def left(self, share: float = 1.0) -> float:
        """Seconds in which things may be begun, of a first share of all."""
        return self.begun + share * self.seconds - time.monotonic()

    @property
    def kinds(self) -> list[Kind]:
        """Those whose speed is measured at length: what pages cost or gain is seen with the first
        weights."""
        pages = Kind(self.scale.weights[0], KvLayout.PAGES)
        return [*(Kind(weights) for weights in self.scale.weights), pages]

    @property
    def further_kinds(self) -> list[Kind]:
        """Those that the small model alone is made as."""
        kept = Kind(self.scale.weights[0], kv=KvType.INT8)
        return [Kind(WeightType.BF16), Kind(WeightType.INT8), kept]

    def made(
        self, name: str, source: WeightSource, kind: Kind, *, cuda_graphs: bool = True
    ) -> LoadedModel:
        """On the device. Raises `StartError`."""
        folder = self._exported(name, source, kind)
        threads = usable_cores()
        return LoadedModel(folder, self.device, threads=threads, cuda_graphs=cuda_graphs)

    def on_the_cpu(self, name: str, source: WeightSource, slots: int, context: int) -> CpuDecoder:
        """The same in fp32, by the CPU's own decoder."""
        recipe = Recipe(WeightType.FP32, CUDA_BLOCK_SIZE)
        folder = exported(self.place, f"{name}-cpu", source, recipe, self.report)
        return CpuDecoder(folder, slots=slots, context=context, threads=usable_cores())

    def _exported(self, name: str, source: WeightSource, kind: Kind) -> ModelFolder:
        folder = f"{name}-{kind}".replace(" ", "-")
        return exported(self.place, folder, source, kind.recipe(), self.report)
