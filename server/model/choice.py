"""Which device a folder runs on: what was asked for, what works, and what the folder is made for.

Knows how to choose; how a device is found and how a model is opened on it are handed in.
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
"""What is in the way of using a device, or None."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A device, and why it is not another."""

    device: Device
    reason: str

    def __str__(self) -> str:
        return f"{self.device}: {self.reason}"


def open_on_best(
    folder: ModelFolder, told: Device | None, obstacle: Obstacle, open_on: Callable[[Device], T]
) -> tuple[T, Choice]:
    """Opens the folder on the device that was `told`, or where it runs best: the CPU is the way out
    then. Raises `StartError`."""
    choice = choose(folder, told, obstacle)
    try:
        return _opened(folder, choice, open_on), choice
    except Misplaced as error:
        if told is not None:
            raise
        choice = Choice(CPU, str(error))
        return _opened(folder, choice, open_on), choice


def choose(folder: ModelFolder, told: Device | None, obstacle: Obstacle) -> Choice:
    """Before the model is opened, which may take long. Raises `StartError`."""
    if told is not None and told.kind is DeviceKind.CPU:
        return Choice(told, "as told")
    if told is None and folder.target is DeviceKind.CPU:
        return Choice(CPU, "the folder is exported for the CPU")
    device = told or Device(DeviceKind.CUDA)
    if in_the_way := obstacle(device):
        if told is None:
            return Choice(CPU, f"{device} is not available: {in_the_way}")
        raise StartError(f"{device} is not available: {in_the_way}")
    if folder.target is DeviceKind.CPU:
        raise StartError(f"{folder.path} is exported for the CPU, {remedy(device)}")
    return Choice(device, "as told" if told else "a trial graph ran on it")


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
