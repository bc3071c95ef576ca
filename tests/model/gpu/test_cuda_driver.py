"""The driver's devices, read through a library that answers as NVIDIA's does."""

import ctypes
from dataclasses import dataclass
from typing import Any

import pytest

from server.model.gpu.cuda_driver import LIBRARY, Driver, Gpu, NoDriver, find_driver

NO_DEVICE, UNKNOWN = 100, 4711
GIB = 2**30


@dataclass(frozen=True)
class FakeLibrary:
    """libcuda.so.1 with these devices; a call of `broken` answers with the code."""

    gpus: tuple[Gpu, ...] = ()
    version: int = 13000
    broken: str = ""
    code: int = 0

    def __getattr__(self, name: str) -> Any:
        function = getattr(FakeLibrary, f"_{name}")
        return lambda *given: self.code if name == self.broken else function(self, *given) or 0

    def _cuInit(self, flags: int) -> None:  # noqa: N802 - the driver's name
        assert flags == 0

    def _cuDriverGetVersion(self, version: Any) -> None:  # noqa: N802
        version._obj.value = self.version

    def _cuDeviceGetCount(self, count: Any) -> None:  # noqa: N802
        count._obj.value = len(self.gpus)

    def _cuDeviceGet(self, device: Any, index: int) -> None:  # noqa: N802
        device._obj.value = 40 + index  # a handle, not the index

    def _cuDeviceGetName(self, name: Any, size: int, device: ctypes.c_int) -> None:  # noqa: N802
        name.value = self._gpu(device).name.encode()[: size - 1]

    def _cuDeviceTotalMem_v2(self, memory: Any, device: ctypes.c_int) -> None:  # noqa: N802
        memory._obj.value = self._gpu(device).memory

    def _cuDeviceGetAttribute(self, value: Any, number: int, device: ctypes.c_int) -> None:  # noqa: N802
        value._obj.value = self._gpu(device).capability[number - 75]

    def _cuGetErrorString(self, code: int, words: Any) -> int:  # noqa: N802
        words._obj.value = b"no CUDA-capable device is detected" if code == NO_DEVICE else None
        return int(code != NO_DEVICE)

    def _gpu(self, device: ctypes.c_int) -> Gpu:
        return self.gpus[device.value - 40]


def test_devices_are_read_in_the_drivers_order() -> None:
    gpus = (Gpu("NVIDIA H200", 141 * GIB, (9, 0)), Gpu("NVIDIA T4", 15 * GIB, (7, 5)))
    assert find_driver(lambda _: FakeLibrary(gpus)) == Driver((13, 0), gpus)


def test_a_driver_may_show_no_device() -> None:
    assert find_driver(lambda _: FakeLibrary(version=12080)) == Driver((12, 8), ())


def test_a_machine_without_driver_says_what_the_linker_says() -> None:
    def load(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    assert find_driver(load) == NoDriver(f"{LIBRARY}: cannot open shared object file")


@pytest.mark.parametrize(
    ("function", "code", "words"),
    [
        ("cuInit", NO_DEVICE, "no CUDA-capable device is detected (100)"),
        ("cuDriverGetVersion", UNKNOWN, "an unknown error (4711)"),
        ("cuDeviceTotalMem_v2", NO_DEVICE, "no CUDA-capable device is detected (100)"),
    ],
)
def test_what_the_driver_refuses_is_the_reason(function: str, code: int, words: str) -> None:
    library = FakeLibrary((Gpu("A", 1, (8, 0)),), broken=function, code=code)
    assert find_driver(lambda _: library) == NoDriver(f"{LIBRARY}: {function}: {words}")
