"""A device is taken when it was asked for or works; one that is not available is named, never
replaced."""

from collections.abc import Callable
from pathlib import Path

import pytest

from server.config import CPU, Device, DeviceKind, SamplingParameters
from server.errors import StartError
from server.model.choice import choose, open_on_best
from server.model.folder import ModelFolder
from server.model.runtime import Misplaced

CUDA, SECOND = Device(DeviceKind.CUDA), Device(DeviceKind.CUDA, 1)


def folder(target: DeviceKind | None) -> ModelFolder:
    return ModelFolder(
        Path("m"),
        Path("m/model.onnx"),
        Path(),
        8,
        frozenset(),
        SamplingParameters(),
        target,
    )


def works(device: Device) -> str | None:
    return None


def no_driver(device: Device) -> str | None:
    return "no driver"


def opener(**faults: StartError) -> Callable[[Device], Device]:
    """Opens a folder on a device, whatever the folder, unless the device's kind has a fault."""

    def open_on(device: Device) -> Device:
        if fault := faults.get(device.kind.value):
            raise fault
        return device

    return open_on


@pytest.mark.parametrize(
    ("told", "target", "expected"),
    [
        (None, DeviceKind.CUDA, CUDA),
        (None, None, CUDA),
        (None, DeviceKind.CPU, CPU),
        (CPU, DeviceKind.CUDA, CPU),
        (CUDA, None, CUDA),
        (SECOND, DeviceKind.CUDA, SECOND),
    ],
)
def test_where_cuda_works_folder_and_operator_decide(
    told: Device | None, target: DeviceKind | None, expected: Device
) -> None:
    opened, choice = open_on_best(folder(target), told, works, opener())
    assert opened == choice.device == expected


@pytest.mark.parametrize("target", [None, DeviceKind.CPU, DeviceKind.CUDA])
def test_where_cuda_does_not_work_auto_is_the_cpu(target: DeviceKind | None) -> None:
    opened, choice = open_on_best(folder(target), None, no_driver, opener())
    assert opened == CPU
    for_the_cpu = target is DeviceKind.CPU
    reason = "the folder is exported for the CPU" if for_the_cpu else "no driver"
    assert str(choice).startswith("cpu: ")
    assert reason in str(choice)


def test_for_a_folder_of_the_cpu_nobody_looks_for_a_device() -> None:
    def looked(device: Device) -> str | None:
        raise AssertionError(device)

    assert choose(folder(DeviceKind.CPU), None, looked).device == CPU
    assert choose(folder(None), CPU, looked).device == CPU


@pytest.mark.parametrize("target", [None, DeviceKind.CPU, DeviceKind.CUDA])
def test_a_device_that_was_asked_for_is_never_another(target: DeviceKind | None) -> None:
    with pytest.raises(StartError, match="cuda:1 is not available: no driver"):
        open_on_best(folder(target), SECOND, no_driver, opener())


def test_a_folder_of_the_cpu_on_cuda_is_told_how_to_export_it() -> None:
    with pytest.raises(StartError, match=r"for the CPU, .* skiff-export --target cuda SOURCE"):
        open_on_best(folder(DeviceKind.CPU), CUDA, works, opener())


def test_a_graph_that_cuda_has_no_kernels_for_runs_on_the_cpu() -> None:
    open_on = opener(cuda=Misplaced("cuda:0 has no kernel for its GroupQueryAttention"))
    opened, choice = open_on_best(folder(None), None, works, open_on)
    assert opened == choice.device == CPU
    assert "no kernel for its GroupQueryAttention" in choice.reason
    with pytest.raises(StartError, match=r"GroupQueryAttention; .* skiff-export --target cuda"):
        open_on_best(folder(None), CUDA, works, open_on)


def test_what_else_goes_wrong_on_cuda_is_not_hidden_by_the_cpu() -> None:
    open_on = opener(cuda=StartError("out of memory"))
    with pytest.raises(StartError, match=r"^out of memory$"):
        open_on_best(folder(None), None, works, open_on)


def test_a_folder_of_cuda_that_the_cpu_cannot_run_says_both_reasons() -> None:
    open_on = opener(cpu=StartError("no kernel for bfloat16"))
    with pytest.raises(StartError) as caught:
        open_on_best(folder(DeviceKind.CUDA), None, no_driver, open_on)
    for words in ("no driver", "no kernel for bfloat16", "skiff-export --target cpu"):
        assert words in str(caught.value)
    with pytest.raises(StartError, match=r"^no kernel for bfloat16$"):
        open_on_best(folder(None), CPU, no_driver, open_on)
