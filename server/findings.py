"""The findings of `skiff doctor`: what each fact means for running a model.

Knows how facts decide where and how fast a model runs; gathers no facts, and prints nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from server.config import Device, DeviceKind
from server.machine import Machine
from server.model.gpu.cuda import CudaFacts, dotted
from server.model.gpu.cuda_driver import Gpu, NoDriver
from server.model.gpu.cuda_libraries import Library
from server.model.gpu.sessions import Runtime
from server.model.runtime import MISSING

_FLASH = (8, 0)
"""The lowest compute capability that the fast kernels for attention run on."""


class Mark(Enum):
    """How good a finding is."""

    GOOD = "ok"
    NOTE = "note"
    """Skiff runs, but could do more."""
    BAD = "bad"
    """What was asked for does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One row."""

    mark: Mark
    what: str
    found: str
    means: str = ""


def of_machine(machine: Machine) -> Iterator[Finding]:
    yield Finding(Mark.GOOD, "python", machine.python)
    yield _processor(machine)
    limits = f"{machine.affinity} by affinity, {machine.cores} in the machine"
    yield Finding(
        Mark.GOOD if machine.usable == machine.cores else Mark.NOTE,
        "cores",
        f"{machine.usable} ({limits})",
        "as many threads run a model on the CPU, unless --threads says otherwise",
    )
    if machine.memory is not None and machine.available is not None:
        found = f"{_gib(machine.available)} available of {_gib(machine.memory)}"
        yield Finding(Mark.GOOD, "memory", found, "weights, keys and values have to fit in it")
    yield _huge_pages(machine)


def of_runtime(runtime: Runtime | None) -> Iterator[Finding]:
    if runtime is None:
        yield Finding(Mark.BAD, "runtime", "none", MISSING)
        return
    wheels = " and ".join(runtime.wheels) or f"ONNX Runtime {runtime.version}"
    built = f", built with CUDA {dotted(runtime.cuda)}" if runtime.cuda else ""
    if len(runtime.wheels) > 1:
        means = "one has overwritten files of the other: uninstall both, then install one of them"
        yield Finding(Mark.NOTE, "runtime", wheels, means)
    else:
        means = "runs models on the CPU, and on CUDA" if runtime.has_cuda else "is for the CPU only"
        yield Finding(Mark.GOOD, "runtime", f"{wheels}{built}", means)
    yield Finding(Mark.GOOD, "providers", ", ".join(runtime.providers), "what it was built with")


def of_cuda(facts: CudaFacts, asked: bool) -> Iterator[Finding]:
    """`asked`: whether CUDA has to work."""
    fault = Mark.BAD if asked else Mark.NOTE
    if isinstance(facts.driver, NoDriver):
        means = "no GPU of NVIDIA's can be used; in a container, it may have to be handed in"
        yield Finding(fault, "driver", facts.driver.reason, means)
    else:
        found = f"for CUDA up to {dotted(facts.driver.cuda)}"
        yield Finding(Mark.GOOD, "driver", found, f"devices: {len(facts.driver.gpus)}")
        for index, gpu in enumerate(facts.driver.gpus):
            yield _gpu(index, gpu)
    for library in facts.libraries:
        yield _library(library, fault)
    if facts.obstacle is None:
        means = "a tiny graph ran on it and gave the right numbers"
        yield Finding(Mark.GOOD, str(facts.device), "works", means)
    else:
        yield Finding(fault, str(facts.device), "not available", facts.obstacle)


def of_folder(device: Device, error: str | None, asked: bool) -> Finding:
    """The result of opening a folder on a device; `asked`: whether it has to run there."""
    what = f"folder, {device}"
    if error is None:
        return Finding(Mark.GOOD, what, "runs", "the model was loaded, and a first call answered")
    return Finding(Mark.BAD if asked else Mark.NOTE, what, "does not run", error)


def of_tokenizer(error: str | None) -> Finding:
    """The result of reading a folder's tokenizer, without which it cannot be served at all."""
    if error is None:
        return Finding(Mark.GOOD, "tokenizer", "can be read", "text becomes tokens, and back")
    return Finding(Mark.BAD, "tokenizer", "cannot be read", error)


def of_target(target: DeviceKind | None) -> Finding:
    """The device that a folder's documents say it is made for."""
    if target is None:
        found, means = "not said", "only loading it shows where its operators have kernels"
    else:
        found = f"made for {target.value}"
        means = f"--device auto takes {target.value} for it, if that works"
    return Finding(Mark.GOOD, "folder", found, means)


def _processor(machine: Machine) -> Finding:
    found = ", ".join((machine.processor, *machine.instructions))
    if {"AVX-512 VNNI", "AVX-VNNI", "AMX", "I8MM", "dot product"} & set(machine.instructions):
        means = "has instructions for products of 8-bit integers, which the default weights use"
        return Finding(Mark.GOOD, "processor", found, means)
    means = "no instructions for products of 8-bit integers are known of it: slower"
    return Finding(Mark.NOTE, "processor", found, means)


def _huge_pages(machine: Machine) -> Finding:
    if machine.huge_pages in ("always", "madvise"):
        means = "weights lie in huge pages where the C library is glibc"
        return Finding(Mark.GOOD, "huge pages", machine.huge_pages, means)
    found = machine.huge_pages or "the system does not say"
    means = "weights lie in small pages, which makes decoding a little slower"
    return Finding(Mark.NOTE, "huge pages", found, means)


def _gpu(index: int, gpu: Gpu) -> Finding:
    found = f"{gpu.name}, {_gib(gpu.memory)}, compute capability {dotted(gpu.capability)}"
    if gpu.capability >= _FLASH:
        return Finding(Mark.GOOD, f"gpu {index}", found, "has all fast kernels for attention")
    means = f"the fast kernels for attention want {dotted(_FLASH)}"
    return Finding(Mark.NOTE, f"gpu {index}", found, means)


def _library(library: Library, fault: Mark) -> Finding:
    if library.path:
        return Finding(Mark.GOOD, library.name, library.path)
    means = f"pip install 'skiff-llm[gpu]' brings {library.package}, which has it"
    return Finding(fault if library.needed else Mark.NOTE, library.name, "not found", means)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
