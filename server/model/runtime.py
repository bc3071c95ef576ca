"""ONNX Runtime as both devices need it: where it is installed, its settings, its errors.

Knows how a graph is loaded; does not know what its inputs mean. Does not import the Python module
`onnxruntime` (`gpu.sessions` does): the CPU's graphs are run by the C library beside it.
"""

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

from server.errors import StartError
from server.model.heap import share_one_heap

# Its wheels report to Microsoft unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

share_one_heap()  # here, before any thread loads a model

MISSING = "ONNX Runtime is not installed: pip install 'skiff-llm[cpu]' or 'skiff-llm[gpu]'"
_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)
_ERROR_PREFIX = re.compile(r"^.*\[ONNXRuntimeError\] : [0-9]+ : [A-Z_]+ : ")
_FAILURE = re.compile(r"\b[A-Z]+ failure [0-9]+: [^;]*")
SESSION_SETTINGS = {
    # How long a session's threads spin after a call, so that the next one of a decode loop finds
    # them awake. Without a limit, the threads of one session spun during the calls of another,
    # which then took half as long again.
    "session.intra_op.spin_duration_us": "500",
    # Else one thread packs all weights that sessions do not share: a third of the loading time.
    "session.prepack.enable_parallel": "1",
}
CALL_SETTINGS = {
    # The runtime's number for calls outside of any CUDA graph. If it is not set, each call looks
    # for it in vain, which costs a C++ exception and a search through the whole library for its
    # handler: 1 % of a small model's step.
    "gpu_graph_id": "-1",
}
_LIBRARY_NAMES = ("libonnxruntime.so.{}", "libonnxruntime.{}.dylib")
"""With the version, since a wheel installed over another leaves the other's library there."""
QUIET = 4
"""Log severity: errors are raised as exceptions, and should be reported once."""


class Misplaced(StartError):
    """The device works, but this graph does not run on it as a whole."""


def runtime_version() -> str | None:
    """Returns the version of the runtime that is installed; None if there is none."""
    package = _package()
    declared = _VERSION.search((package / "__init__.py").read_text()) if package else None
    return declared[1] if declared else None


def library() -> Path:
    """Returns the path of the runtime's C library. Raises `StartError` if there is none."""
    package, version = _package(), runtime_version()
    if package is None or version is None:
        raise StartError(MISSING)
    folder = package / "capi"
    names = [name.format(".".join(version.split(".")[:3])) for name in _LIBRARY_NAMES]
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise StartError(f"{folder}: this build of ONNX Runtime has no {' or '.join(names)}")


def _package() -> Path | None:
    """The folder of the Python module, which is found without importing it."""
    spec = importlib.util.find_spec("onnxruntime")
    return Path(spec.origin).parent if spec and spec.origin else None


@contextlib.contextmanager
def loading(model_file: Path) -> Iterator[None]:
    """Turns whatever the runtime raises while it loads a graph into a `StartError`."""
    try:
        yield
    except StartError:
        raise
    except Exception as error:  # the runtime's own exceptions have no common base
        raise StartError(
            f"{model_file}: ONNX Runtime cannot load it: {first_line(error)}"
        ) from None


def first_line(error: Exception) -> str:
    """Returns the first line of a message, without the runtime's source locations; of a failure of
    CUDA or its libraries, only their own words."""
    line = _ERROR_PREFIX.sub("", str(error).partition("\n")[0])
    failure = _FAILURE.search(line)
    return (failure[0] if failure else line).strip()
