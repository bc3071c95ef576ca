"""Draws a run's figures: distributions of latencies, and throughput over the load.

Knows matplotlib, an optional dependency.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_tools.bench.report.series import Of, Series
from server.errors import StartError

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator
except ModuleNotFoundError:
    Figure = None  # type: ignore[assignment, misc]

INCHES = (6, 4.5)
"""Width and height of one plot."""
THROUGHPUT = "tokens/s"


def check(file: Path) -> None:
    """Raises `StartError` if nothing can be drawn; called before anything is measured."""
    if Figure is None:
        raise StartError("matplotlib is not installed: pip install 'skiff-llm[plot]'")
    kinds = Figure().canvas.get_supported_filetypes()
    if file.suffix.removeprefix(".") not in kinds:
        raise StartError(f"{file}: must end in one of .{', .'.join(sorted(kinds))}")


def draw(series: Sequence[Series], file: Path) -> None:
    """Draws a distribution for each measure, and the throughput. Raises `StartError`."""
    latencies = [each for each in series if each.of is not Of.ROUND and each.samples]
    measures = list(dict.fromkeys(each.measure for each in latencies))
    rows = len(measures) // 2 + 1
    figure = Figure(figsize=(INCHES[0] * 2, INCHES[1] * rows), layout="constrained")
    axes = list(figure.subplots(rows, 2).flat)
    if len(axes) > len(measures) + 1:
        axes.pop().remove()
    for plot, measure in zip(axes, measures, strict=False):
        _distribution(plot, [each for each in latencies if each.measure == measure])
    rates = [each for each in series if each.measure == THROUGHPUT and each.samples]
    _throughput(axes[-1], rates)
    _write(figure, file)


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve by two measures, `up` over `across`."""

    across: str
    up: str


def draw_curve(curve: Curve, series: Sequence[Series], file: Path) -> None:
    """Draws a point for each test, by the medians of its rounds. Raises `StartError`."""
    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots()
    medians = {
        measure: [float(np.median(each.samples)) for each in series if each.measure == measure]
        for measure in (curve.across, curve.up)
    }
    points = list(zip(medians[curve.across], medians[curve.up], strict=True))
    axes.plot(*zip(*points, strict=True), marker="o")
    names = [each.test for each in series if each.measure == curve.up]
    for name, point in zip(names, points, strict=True):
        axes.annotate(name, point, xytext=(5, 5), textcoords="offset points", fontsize="small")
    axes.set(xlabel=curve.across, ylabel=curve.up, xlim=(0, None), ylim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    _write(figure, file)


def _write(figure: "Figure", file: Path) -> None:
    """Raises `StartError`."""
    try:
        figure.savefig(file, dpi=120)
    except OSError as error:
        raise StartError(f"{file}: cannot be written: {error.strerror}") from None


def _distribution(axes: "Axes", series: Sequence[Series]) -> None:
    """Draws cumulative distributions: for each value, the share of figures up to it."""
    for each in series:
        values = np.sort(each.samples)
        shares = np.arange(1, len(values) + 1) / len(values)
        axes.step(values, shares, where="post", label=f"{each.subject}, {each.test}")
    axes.set(xscale="log", xlabel=f"{series[0].measure} (ms)", ylabel="share of all", ylim=(0, 1))
    axes.xaxis.set_major_formatter("{x:g}")  # not in powers of ten
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")


def _throughput(axes: "Axes", series: Sequence[Series]) -> None:
    """Draws the mean of the rounds over the load, with the lowest and the highest round."""
    for subject in dict.fromkeys(each.subject for each in series):
        own = sorted(
            [each for each in series if each.subject == subject], key=lambda each: each.at or 0
        )
        means = np.array([np.mean(each.samples) for each in own])
        below = means - [min(each.samples) for each in own]
        above = [max(each.samples) for each in own] - means
        loads = [each.at or 0 for each in own]
        axes.errorbar(loads, means, [below, above], marker="o", capsize=3, label=subject)
    axes.set(xlabel="clients, or requests per second", ylabel="tokens per second", ylim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    if series:
        axes.legend(fontsize="small")
