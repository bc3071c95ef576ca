"""`skiff doctor`: looks at all that decides where a model runs, and prints what it found.

Knows where facts come from and how a finding is printed; does not know what facts mean (`findings`
does).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from server import __version__
from server.config import CPU, Device, DeviceKind, DoctorConfig
from server.cores import usable_cores
from server.errors import StartError
from server.findings import (
    Finding,
    Mark,
    of_cuda,
    of_folder,
    of_machine,
    of_runtime,
    of_target,
    of_tokenizer,
)
from server.machine import Machine
from server.model.folder import ModelFolder
from server.model.gpu.cuda import CudaFacts, find_cuda
from server.model.opening import open_decoder
from server.model.tokenizer import Tokenizer
from server.program import say

TRIAL_CONTEXT = 64
"""Tokens; enough to try a folder."""


def run(config: DoctorConfig) -> int:
    """Prints the table; returns 0, the exit code, if what was asked for works, else 1. Raises
    `StartError`."""
    folder = ModelFolder.read(config.model_folder) if config.model_folder else None
    found = list(examine(config.device, folder))
    say(*table(found))
    return int(any(finding.mark is Mark.BAD for finding in found))


def examine(device: Device | None, folder: ModelFolder | None) -> Iterator[Finding]:
    """Yields all findings, from the machine to the folder; `device` as in `DoctorConfig`."""
    asked = device is not None and device.kind is DeviceKind.CUDA
    facts = find_cuda(device if device and asked else Device(DeviceKind.CUDA))
    yield from of_machine(Machine.read())
    yield from of_runtime(facts.runtime)
    yield from of_cuda(facts, asked)
    if folder and facts.runtime:
        yield from _folder(folder, device, facts)


def _folder(folder: ModelFolder, wanted: Device | None, facts: CudaFacts) -> Iterator[Finding]:
    """Opens the folder on each device that works; it has to run on `wanted`; None: on any."""
    yield of_target(folder.target)
    yield of_tokenizer(_error(partial(Tokenizer.read, folder.tokenizer_file)))
    devices = [CPU] if facts.obstacle else [CPU, facts.device]
    errors = {device: _error(partial(_open, folder, device)) for device in devices}
    nowhere = all(errors.values())
    for device, error in errors.items():
        yield of_folder(device, error, asked=nowhere if wanted is None else device == wanted)


def _open(folder: ModelFolder, device: Device) -> None:
    context = min(TRIAL_CONTEXT, folder.context_length)
    open_decoder(
        folder, device, slots=1, context=context, threads=usable_cores(), cuda_graphs=False
    ).warm_up()


def _error(attempt: Callable[[], object]) -> str | None:
    """Returns why `attempt` fails; None if it does not."""
    try:
        attempt()
    except (StartError, OSError, MemoryError) as error:
        return str(error)
    return None


def table(findings: Sequence[Finding]) -> Iterator[str]:
    """Yields each finding in a line, and what it means in the next."""
    width = max(len(finding.what) for finding in findings)
    yield f"skiff {__version__}"
    for finding in findings:
        yield f"{finding.mark.value:<6}{finding.what:<{width}}  {finding.found}"
        if finding.means:
            yield f"{'':<6}{'':<{width}}  {finding.means}"
