"""The machine, the versions, the commit and the model, for a report's header: figures mean nothing
without them."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import onnx_ir as ir

from server import __version__
from server.cores import usable_cores
from server.errors import StartError
from server.machine import Machine
from server.model.folder import ModelFolder

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-genai")


def machine() -> dict[str, str]:
    return {
        "processor": Machine.read().processor,
        "cores": f"{usable_cores()} of {os.cpu_count()} usable",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": f"skiff {__version__}{commit()}, {', '.join(installed())}",
    }


def model(folder: Path) -> dict[str, str]:
    """Raises `StartError`."""
    file = ModelFolder.read(folder).model_file
    size = sum(each.stat().st_size for each in folder.iterdir() if each.is_file())
    return {"model": f"{folder.resolve().name}, {size / 1e6:.0f} MB", "weights": weights(file)}


def weights(file: Path) -> str:
    """Says how a graph stores its matrices. Raises `StartError`."""
    try:
        graph = ir.load(file).graph
    except Exception as error:  # protobuf's own, among others
        raise StartError(f"{file}: cannot be read as ONNX: {error}") from None
    nodes = [node for node in graph if node.op_type == "MatMulNBits"]
    kinds = {
        f"int{node.attributes.get_int('bits', 4)} in blocks of "
        f"{node.attributes.get_int('block_size')}"
        for node in nodes
    }
    return ", ".join(sorted(kinds)) or "not quantised"


def commit() -> str:
    """The working tree's commit, marked as dirty if files are changed; empty for an installed
    Skiff."""
    here = Path(__file__)
    # An installed Skiff may lie inside the working tree of another project.
    ours = ["git", "ls-files", "--error-unmatch", here.name]
    described = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        _, name = (
            subprocess.run(command, cwd=here.parent, capture_output=True, text=True, check=True)
            for command in (ours, described)
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" (commit {name.stdout.strip()})"


def installed() -> list[str]:
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return versions
