"""Chooses the device for a folder: by what was requested, what works, and the folder's target.

Knows how to choose; does not know how a device is found or a model opened: both are passed in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from server.config import CPU, Device, DeviceKind
from server.errors import StartError
from server.model.folder import ModelFolder
from server.model.runtime import Misplaced

T = TypeVar("T")

Obstacle = Callable[[Device], str | None]
"""Returns why a device cannot be used; None if it can."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A device, and why it was chosen."""

    device: Device
    reason: str

    def __str__(self) -> str:
        return f"{self.device}: {self.reason}"


def open_on_best(
    folder: ModelFolder,
    requested: Device | None,
    obstacle: Obstacle,
    open_on: Callable[[Device], T],
) -> tuple[T, Choice]:
    """Opens the folder on the `requested` device, or where it runs best if that is None, with the
    CPU as the fallback. Raises `StartError`."""
    choice = choose(folder, requested, obstacle)
    try:
        return _opened(folder, choice, open_on), choice
    except Misplaced as error:
        if requested is not None:
            raise
        choice = Choice(CPU, str(error))
        return _opened(folder, choice, open_on), choice


def choose(folder: ModelFolder, requested: Device | None, obstacle: Obstacle) -> Choice:
    """Chooses before the model is opened, since that may take long. Raises `StartError`."""
    if requested is not None and requested.kind is DeviceKind.CPU:
        return Choice(requested, "as requested")
    if requested is None and folder.target is DeviceKind.CPU:
        return Choice(CPU, "the folder is exported for the CPU")
    device = requested or Device(DeviceKind.CUDA)
    if in_the_way := obstacle(device):
        if requested is None:
            return Choice(CPU, f"{device} is not available: {in_the_way}")
        raise StartError(f"{device} is not available: {in_the_way}")
    if folder.target is DeviceKind.CPU:
        raise StartError(f"{folder.path} is exported for the CPU, {remedy(device)}")
    return Choice(device, "as requested" if requested else "a trial graph ran on it")


def remedy(device: Device) -> str:
    """The command that makes a folder for a device."""
    kind = device.kind.value
    return f"one for {kind.upper()} comes from: skiff-export --target {kind} SOURCE FOLDER"


def _opened(folder: ModelFolder, choice: Choice, open_on: Callable[[Device], T]) -> T:
    try:
        return open_on(choice.device)
    except Misplaced as error:
        raise Misplaced(f"{error}; {remedy(choice.device)}") from None
    except StartError as error:
        if choice.device == CPU and folder.target is DeviceKind.CUDA:
            raise StartError(f"{choice.reason}; and on the CPU, {error}; {remedy(CPU)}") from None
        raise
