"""Whatever is in the way of CUDA has a name, and the first thing is told."""

from dataclasses import replace

import pytest

from server.config import Device, DeviceKind
from server.model.gpu.cuda import CudaFacts, find_cuda
from server.model.gpu.cuda_driver import Driver, Gpu, NoDriver
from server.model.gpu.cuda_libraries import find_libraries
from server.model.gpu.sessions import Runtime

GPU = Gpu("NVIDIA H200", 141 * 2**30, (9, 0))
BOTH = ("CUDAExecutionProvider", "CPUExecutionProvider")
WORKS = CudaFacts(
    device=Device(DeviceKind.CUDA),
    runtime=Runtime("1.31.1", ("onnxruntime-gpu 1.31.1",), (13, 0), BOTH),
    driver=Driver((13, 1), (GPU,)),
    libraries=find_libraries(13, lambda _: None),
)
CPU_WHEEL = Runtime("1.32.0", ("onnxruntime 1.32.0",), None, ("CPUExecutionProvider",))
TWO_WHEELS = replace(CPU_WHEEL, wheels=("onnxruntime 1.32.0", "onnxruntime-gpu 1.31.1"))


def without(*names: str) -> CudaFacts:
    libraries = [
        replace(library, path=None) if library.name in names else library
        for library in WORKS.libraries
    ]
    return replace(WORKS, libraries=tuple(libraries))


def test_nothing_is_in_the_way_where_all_is_there() -> None:
    assert WORKS.obstacle is None
    assert without("libnvrtc.so.13").obstacle is None


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(WORKS, runtime=None), ["not installed", "skiff-llm[gpu]"]),
        (replace(WORKS, runtime=CPU_WHEEL), ["onnxruntime 1.32.0 has no CUDA", "skiff-llm[gpu]"]),
        (
            replace(WORKS, runtime=TWO_WHEELS),
            ["onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1", "uninstall both"],
        ),
        (replace(WORKS, driver=NoDriver("libcuda.so.1: no such file")), ["driver", "libcuda.so.1"]),
        (
            replace(WORKS, driver=Driver((12, 4), (GPU,))),
            ["up to 12.4", "for 13.0", "580 or newer"],
        ),
        (replace(WORKS, driver=Driver((13, 0), ())), ["shows no device"]),
        (replace(WORKS, device=Device(DeviceKind.CUDA, 1)), ["shows cuda:0 only"]),
        (
            replace(WORKS, device=Device(DeviceKind.CUDA, 2), driver=Driver((13, 0), (GPU, GPU))),
            ["shows cuda:0 to cuda:1"],
        ),
        (without("libcudnn.so.9"), ["missing libcudnn.so.9", "nvidia-cudnn-cu13"]),
        (
            without("libcublas.so.13", "libcublasLt.so.13", "libcudart.so.13"),
            ["libcudart.so.13, libcublas.so.13, libcublasLt.so.13", "nvidia-cublas, nvidia-cuda-r"],
        ),
        (replace(WORKS, failure="CUDA failure 209"), ["a tiny graph", "CUDA failure 209"]),
    ],
)
def test_what_is_missing_is_named(facts: CudaFacts, words: list[str]) -> None:
    said = facts.obstacle
    assert said is not None
    assert "\n" not in said
    for word in words:
        assert word in said


def test_a_newer_cuda_than_is_known_has_no_known_driver() -> None:
    runtime = Runtime("2.0", ("onnxruntime-gpu 2.0",), (14, 0), BOTH)
    said = replace(WORKS, runtime=runtime).obstacle
    assert said is not None
    assert said.endswith("update the driver")


def test_the_wheel_comes_before_the_driver_and_the_driver_before_libraries() -> None:
    facts = replace(without("libcudart.so.13"), driver=NoDriver("none"), runtime=CPU_WHEEL)
    assert "has no CUDA" in str(facts.obstacle)
    assert "driver" in str(replace(facts, runtime=WORKS.runtime).obstacle)


def test_the_tests_environment_has_the_wheel_for_the_cpu() -> None:
    """So that what is really installed is read, once."""
    facts = find_cuda(Device(DeviceKind.CUDA))
    assert facts.runtime is not None
    assert facts.runtime.providers[-1] == "CPUExecutionProvider"
    assert f"onnxruntime {facts.runtime.version}" in facts.runtime.wheels
    assert "has no CUDA" in str(facts.obstacle)
