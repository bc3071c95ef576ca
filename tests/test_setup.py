"""Which distributions the extras install, alone and together."""

import configparser

from tests.test_layers import ROOT


def requirements(*extras: str) -> set[str]:
    """The names of distributions."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = [setup["options.extras_require"][extra] for extra in extras]
    return {line.split(">=")[0].split("[")[0] for line in "\n".join(lines).split()}


def test_what_measures_and_exports_leaves_cuda_alone() -> None:
    """A distribution that wants `onnxruntime` puts the CPU's build over `onnxruntime-gpu`."""
    beside_cuda = requirements("gpu", "export", "bench", "plot", "gpu-check")
    assert "onnxruntime-gpu" in beside_cuda
    assert not beside_cuda & {"onnxruntime", "onnxruntime-genai"}


def test_skiff_bench_has_what_it_imports() -> None:
    """It needs all of the exporter's, for models with random weights."""
    assert requirements("export") <= requirements("bench")
