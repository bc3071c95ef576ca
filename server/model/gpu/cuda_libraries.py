"""The CUDA libraries that ONNX Runtime uses: which are installed, and where.

Knows the dynamic linker; does not know the runtime.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_MAPS = Path("/proc/self/maps")


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library by the name that the linker looks for."""

    name: str
    package: str
    """The PyPI package that has it."""
    needed: bool
    """Whether nothing runs without it; without one that is not needed, something may be slower."""
    path: str | None
    """Where it was found, or its own name where the system does not say; None if not found."""


def find_libraries(
    cuda: int, load: Callable[[str], object] = ctypes.CDLL, maps: Path = _MAPS
) -> tuple[Library, ...]:
    """Loads and locates those of a major version of CUDA. They stay loaded."""
    return tuple(
        Library(name, package, needed, _found(name, load, maps))
        for name, package, needed in (
            (f"libcudart.so.{cuda}", "nvidia-cuda-runtime", True),
            (f"libcublas.so.{cuda}", "nvidia-cublas", True),
            (f"libcublasLt.so.{cuda}", "nvidia-cublas", True),
            ("libcurand.so.10", "nvidia-curand", True),
            # Loaded late, but the runtime asks for it, and attention on newer GPUs uses it.
            ("libcudnn.so.9", f"nvidia-cudnn-cu{cuda}", True),
            (f"libnvrtc.so.{cuda}", "nvidia-cuda-nvrtc", False),
        )
    )


def _found(name: str, load: Callable[[str], object], maps: Path) -> str | None:
    try:
        load(name)
    except OSError:
        return None
    return _mapped(name, maps) or name


def _mapped(name: str, maps: Path) -> str | None:
    """Returns the file of a loaded library; its name may be longer, such as libcublas.so.13.0.2."""
    try:
        lines = maps.read_text().splitlines()
    except OSError:
        return None
    paths = [line.partition("/")[2] for line in lines]
    return next((f"/{path}" for path in paths if Path(path).name.startswith(name)), None)
