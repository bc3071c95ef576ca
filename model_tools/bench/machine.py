"""What a figure is worth nothing without: the machine, the versions, the commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from server import __version__
from server.cores import usable_cores

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-genai")


def describe(folder: Path, threads: int) -> list[str]:
    """Lines above a table."""
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return [
        f"processor: {processor()}, {usable_cores()} of {os.cpu_count()} cores usable",
        f"threads: {threads}",
        f"versions: skiff {__version__}{commit()}, {', '.join(installed())}",
        f"model: {folder.resolve().name}, {size / 1e6:.0f} MB",
    ]


def processor() -> str:
    """Its name where Linux tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str:
    """The working tree's commit, marked if something is changed; nothing for an installed Skiff."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    here = Path(__file__).parent
    try:
        run = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" (commit {run.stdout.strip()})"


def installed() -> list[str]:
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return versions
