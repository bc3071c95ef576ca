"""Where everything happens, how much of it, and until when; how models come to be there."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from model_tools.decoder_spec import WeightSource
from model_tools.gpu_check.loaded import LoadedModel, exported
from model_tools.gpu_check.shapes import Scale
from model_tools.progress import Report
from model_tools.recipe import CUDA_BLOCK_SIZE, Recipe, Target, WeightType
from server.config import Device
from server.cores import usable_cores
from server.model.session import OnnxDecoder


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

    def left(self, share: float = 1.0) -> float:
        """Seconds in which things may be begun, of a first share of all."""
        return self.begun + share * self.seconds - time.monotonic()

    def recipe(self, weights: WeightType) -> Recipe:
        return Recipe.of(Target.CUDA, weights, None, CUDA_BLOCK_SIZE)

    def made(
        self, name: str, source: WeightSource, weights: WeightType, *, cuda_graphs: bool = True
    ) -> LoadedModel:
        """On the device. Raises `StartError`."""
        folder = exported(
            self.place, f"{name}-{weights}", source, self.recipe(weights), self.report
        )
        threads = usable_cores()
        return LoadedModel(folder, self.device, threads=threads, cuda_graphs=cuda_graphs)

    def make_all(self, name: str, source: WeightSource) -> None:
        """All kinds of weights side by side, since much of it keeps one core busy only."""
        with ThreadPoolExecutor() as pool:
            making = [
                pool.submit(
                    exported,
                    self.place,
                    f"{name}-{weights}",
                    source,
                    self.recipe(weights),
                    self.report,
                )
                for weights in self.scale.weights
            ]
        for each in making:
            each.result()

    def on_the_cpu(self, name: str, source: WeightSource, slots: int, context: int) -> OnnxDecoder:
        """The same in fp32, by the CPU's own decoder."""
        recipe = Recipe(WeightType.FP32, CUDA_BLOCK_SIZE)
        folder = exported(self.place, f"{name}-cpu", source, recipe, self.report)
        return OnnxDecoder(folder, slots=slots, context=context, threads=usable_cores())
