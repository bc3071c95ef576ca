"""Finds CUDA, and the reason if it cannot be used.

Knows the wheel, the driver and the libraries as facts; does not know a model.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from server.config import Device
from server.model.gpu.cuda_driver import Driver, NoDriver, find_driver
from server.model.gpu.cuda_libraries import Library, find_libraries
from server.model.gpu.sessions import Runtime, find_runtime, load_cuda, trial_failure
from server.model.runtime import MISSING

DRIVERS = {12: 525, 13: 580}
"""NVIDIA's first driver for each major version of CUDA, on Linux."""
BRING = "pip install 'skiff-llm[gpu]' brings"


@dataclass(frozen=True, slots=True)
class CudaFacts:
    """What was found, from the wheel to the device."""

    device: Device
    """The one that was asked for."""
    runtime: Runtime | None
    driver: Driver | NoDriver
    libraries: tuple[Library, ...] = ()
    """Empty where the runtime was not made for CUDA."""
    failure: str | None = None
    """Why a tiny graph failed on the device; it runs only if nothing else was in the way."""

    @property
    def obstacle(self) -> str | None:
        """The first reason why the device cannot be used, as half a sentence; None if it works."""
        return next(_obstacles(self), None)


def find_cuda(device: Device) -> CudaFacts:
    """Looks for CUDA and, if nothing seems to be in the way, runs a tiny graph on the device."""
    facts = CudaFacts(device, find_runtime(), find_driver())
    if facts.runtime and facts.runtime.has_cuda and facts.runtime.cuda:
        load_cuda()
        facts = replace(facts, libraries=find_libraries(facts.runtime.cuda[0]))
    return replace(facts, failure=None if facts.obstacle else trial_failure(device))


def cuda_obstacle(device: Device) -> str | None:
    """Returns why a CUDA device cannot be used; None if it works."""
    return find_cuda(device).obstacle


def _obstacles(facts: CudaFacts) -> Iterator[str]:
    runtime = facts.runtime
    if runtime is None:
        yield MISSING
        return
    yield from _wheel_obstacles(runtime)
    yield from _driver_obstacles(facts.driver, runtime, facts.device)
    if missing := [library for library in facts.libraries if library.needed and not library.path]:
        names = ", ".join(library.name for library in missing)
        packages = ", ".join(sorted({library.package for library in missing}))
        yield f"missing {names}: {BRING} {packages}"
    if facts.failure:
        yield f"a tiny graph does not run on it: {facts.failure}"


def _wheel_obstacles(runtime: Runtime) -> Iterator[str]:
    if runtime.has_cuda:
        return
    if len(runtime.wheels) > 1:
        both = " and ".join(runtime.wheels)
        yield f"{both} overwrite each other: pip uninstall both, and {BRING} the one for CUDA"
        return
    wheel = " ".join(runtime.wheels) or f"ONNX Runtime {runtime.version}"
    yield f"{wheel} has no CUDA: pip uninstall it, and {BRING} onnxruntime-gpu"


def _driver_obstacles(driver: Driver | NoDriver, runtime: Runtime, device: Device) -> Iterator[str]:
    if isinstance(driver, NoDriver):
        yield f"no driver of NVIDIA's that works: {driver.reason}"
        return
    if runtime.cuda and driver.cuda[0] < runtime.cuda[0]:
        needed = DRIVERS.get(runtime.cuda[0])
        yield (
            f"NVIDIA's driver is for CUDA up to {dotted(driver.cuda)}, and the wheel for"
            f" {dotted(runtime.cuda)}: update the driver{f', to {needed} or newer' * bool(needed)}"
        )
    if not driver.gpus:
        yield "NVIDIA's driver shows no device"
    elif device.index >= len(driver.gpus):
        last = f" to cuda:{len(driver.gpus) - 1}" if len(driver.gpus) > 1 else " only"
        yield f"NVIDIA's driver shows cuda:0{last}"


def dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
