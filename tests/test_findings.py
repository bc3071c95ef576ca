"""Facts become findings: what works, what could be better, and what stands in the way."""

from dataclasses import replace

import pytest

from server.config import CPU, Device, DeviceKind
from server.findings import (
    Finding,
    Mark,
    of_cuda,
    of_folder,
    of_machine,
    of_runtime,
    of_target,
)
from server.machine import Machine
from server.model.gpu.cuda import CudaFacts
from server.model.gpu.cuda_driver import Driver, Gpu, NoDriver
from server.model.gpu.cuda_libraries import find_libraries
from server.model.gpu.sessions import Runtime

GIB = 2**30
MACHINE = Machine("3.12.1", "EPYC", ("AVX2", "AVX-512 VNNI"), 8, 8, 8, 64 * GIB, 32 * GIB, "always")
CUDA = CudaFacts(
    device=Device(DeviceKind.CUDA),
    runtime=Runtime(
        "1.31.1",
        ("onnxruntime-gpu 1.31.1",),
        (13, 0),
        ("CUDAExecutionProvider", "CPUExecutionProvider"),
    ),
    driver=Driver((13, 1), (Gpu("H200", 141 * GIB, (9, 0)), Gpu("T4", 16 * GIB, (7, 5)))),
    libraries=find_libraries(13, lambda _: None),
)
NO_DRIVER = replace(CUDA, driver=NoDriver("libcuda.so.1: no such file"))
NO_CUDNN = replace(
    CUDA,
    libraries=tuple(
        replace(library, path=None) if "cudnn" in library.name else library
        for library in CUDA.libraries
    ),
)


def marks(findings: list[Finding]) -> dict[str, Mark]:
    return {finding.what: finding.mark for finding in findings}


def test_a_good_machine_has_nothing_to_note() -> None:
    findings = list(of_machine(MACHINE))
    assert set(marks(findings).values()) == {Mark.GOOD}
    assert [finding.found for finding in findings] == [
        "3.12.1",
        "EPYC, AVX2, AVX-512 VNNI",
        "8 (8 by affinity, 8 in the machine)",
        "32.0 GiB available of 64.0 GiB",
        "always",
    ]


def test_what_makes_a_machine_slower_is_noted() -> None:
    slower = replace(MACHINE, instructions=("AVX2",), usable=2, huge_pages="never", memory=None)
    found = marks(list(of_machine(slower)))
    assert {what for what, mark in found.items() if mark is Mark.NOTE} == {
        "processor",
        "cores",
        "huge pages",
    }
    assert "memory" not in found


def test_no_runtime_is_bad_and_names_the_extras() -> None:
    [finding] = of_runtime(None)
    assert finding.mark is Mark.BAD
    assert "skiff-llm[gpu]" in finding.means


def test_two_wheels_over_each_other_are_noted() -> None:
    assert CUDA.runtime is not None
    both = replace(CUDA.runtime, wheels=("onnxruntime 1.32.0", "onnxruntime-gpu 1.31.1"))
    assert marks(list(of_runtime(both)))["runtime"] is Mark.NOTE
    assert marks(list(of_runtime(CUDA.runtime)))["runtime"] is Mark.GOOD


def test_cuda_that_works_is_shown_with_its_devices_and_libraries() -> None:
    findings = list(of_cuda(CUDA, asked=True))
    found = marks(findings)
    assert found["gpu 0"] is found["cuda:0"] is found["libcudnn.so.9"] is Mark.GOOD
    assert found["gpu 1"] is Mark.NOTE  # older than the fast kernels
    assert Mark.BAD not in found.values()
    assert "H200, 141.0 GiB, compute capability 9.0" in {finding.found for finding in findings}


@pytest.mark.parametrize(("asked", "mark"), [(True, Mark.BAD), (False, Mark.NOTE)])
def test_what_is_missing_is_bad_only_where_it_was_asked_for(asked: bool, mark: Mark) -> None:
    found = marks(list(of_cuda(NO_DRIVER, asked)))
    assert found["driver"] is found["cuda:0"] is mark
    found = marks(list(of_cuda(NO_CUDNN, asked)))
    assert found["libcudnn.so.9"] is found["cuda:0"] is mark
    assert found["libcublas.so.13"] is Mark.GOOD


def test_the_reason_is_the_one_that_serving_would_give() -> None:
    last = list(of_cuda(NO_DRIVER, asked=False))[-1]
    assert last.means == NO_DRIVER.obstacle


def test_a_folder_runs_or_does_not() -> None:
    assert of_folder(CPU, None, asked=True).mark is Mark.GOOD
    assert of_folder(CPU, "no kernel", asked=False).mark is Mark.NOTE
    bad = of_folder(CPU, "no kernel", asked=True)
    assert (bad.mark, bad.what, bad.means) == (Mark.BAD, "folder, cpu", "no kernel")


@pytest.mark.parametrize(
    ("target", "found"),
    [(None, "not said"), (DeviceKind.CPU, "made for cpu"), (DeviceKind.CUDA, "made for cuda")],
)
def test_what_a_folder_is_made_for_is_said(target: DeviceKind | None, found: str) -> None:
    assert of_target(target).found == found
