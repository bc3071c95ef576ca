"""Which speeds are measured. Knows kinds of models and the scale; measures nothing."""

from dataclasses import dataclass

from model_tools.gpu_check.drawing import NARROW_NUCLEUS, NUCLEUS, in_words
from model_tools.gpu_check.setting import Kind, Setting
from model_tools.gpu_check.streams import GREEDY
from server.config import SamplingParameters


@dataclass(frozen=True, slots=True)
class Cell:
    """Steps that only decode, with `batch` rows after `past` tokens each."""

    batch: int
    past: int
    sampling: SamplingParameters = GREEDY

    @property
    def greedy(self) -> bool:
        return self.sampling == GREEDY

    @property
    def what(self) -> str:
        return "decode" if self.greedy else f"decode, {in_words(self.sampling)}"


@dataclass(frozen=True, slots=True)
class Measured:
    """The cells to measure for a kind of model."""

    kind: Kind
    cells: tuple[Cell, ...]


def at_length(setting: Setting) -> list[Measured]:
    """All batch sizes, for `Setting.kinds`: those that are compared with each other."""
    scale = setting.scale
    cells = tuple(Cell(batch, past) for past in scale.pasts for batch in scale.batches)
    return [Measured(kind, cells) for kind in setting.kinds]


def in_brief(setting: Setting) -> list[Measured]:
    """A few batch sizes, for `Setting.further_kinds`."""
    scale = setting.scale
    cells = tuple(Cell(batch, past) for past in scale.pasts for batch in scale.few_batches)
    return [Measured(kind, cells) for kind in setting.further_kinds]


def drawn(setting: Setting) -> tuple[Cell, ...]:
    """Cells that show the cost of sampling: where candidates suffice, and where they do not."""
    return tuple(
        Cell(batch, setting.scale.pasts[0], sampling)
        for sampling in (NARROW_NUCLEUS, NUCLEUS)
        for batch in setting.scale.few_batches
    )
