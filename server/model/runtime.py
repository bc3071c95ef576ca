"""The one door to `onnxruntime`: the module, as a server wants it, sessions on a device, and what
who calls the library beside it has to know.

Knows how a graph is loaded and where its nodes went; does not know what its inputs mean.
"""

import contextlib
import ctypes
import importlib.metadata
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from server.config import Device, DeviceKind
from server.errors import StartError
from server.model.heap import share_one_heap
from server.model.trial_graph import SIDE, TRIAL_GRAPH

# Its wheels report to Microsoft unless told not to before they are imported; a server tells nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime
except ModuleNotFoundError:
    onnxruntime = None

share_one_heap()  # here, before there is a thread that loads a model

MISSING = "ONNX Runtime is not installed: pip install 'skiff-llm[cpu]' or 'skiff-llm[gpu]'"
_CPU_PROVIDER, _CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
_ON_THE_DEVICE = {"GroupQueryAttention", "MatMulNBits", "PagedAttention"}
"""Operators that make a model slower than on the CPU alone where a device has no kernel for one."""
_PLACES = re.compile(r"^.*\[ONNXRuntimeError\] : [0-9]+ : [A-Z_]+ : ")
_FAILURE = re.compile(r"\b[A-Z]+ failure [0-9]+: [^;]*")
SESSION_SETTINGS = {
    # For so long a session's threads turn in a loop when a call has ended, so that the next one of
    # a decode loop finds them awake. Without an end to it, the threads of one graph turned beside
    # the calls of another, which then took half as long again.
    "session.intra_op.spin_duration_us": "500",
    # Else one thread packs all weights that sessions do not share: a third of what loading takes.
    "session.prepack.enable_parallel": "1",
}
CALL_SETTINGS = {
    # The runtime's word for calls outside of any CUDA graph. Where options have no number at all,
    # each call looks for it in vain, which costs a C++ exception and a search through the whole
    # library for who catches it: 1 % of a small model's step.
    "gpu_graph_id": "-1",
}
_LIBRARY_NAMES = ("libonnxruntime.so.{}", "libonnxruntime.{}.dylib")
"""With the version: a wheel that was installed over another leaves the other's library there."""
Provider = tuple[str, dict[str, str]]
"""An execution provider of the runtime's, and its options."""
QUIET = 4
"""Severity: what goes wrong comes as an exception, and is told once."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The ONNX Runtime that is imported."""

    version: str
    wheels: tuple[str, ...]
    """The distributions that have a module of this name, as "onnxruntime-gpu 1.31.1"."""
    cuda: tuple[int, int] | None
    """The CUDA that it was built with."""
    providers: tuple[str, ...]
    """What it was built with, whether it works here or not."""

    @property
    def has_cuda(self) -> bool:
        return _CUDA_PROVIDER in self.providers


class Misplaced(StartError):
    """The device works, but this graph does not run on it as a whole."""


def find_runtime() -> Runtime | None:
    """None where there is none."""
    if onnxruntime is None:
        return None
    built_with = str(getattr(onnxruntime, "cuda_version", "")).split(".")
    return Runtime(
        onnxruntime.__version__,
        tuple(_wheels()),
        (int(built_with[0]), int(built_with[1])) if len(built_with) > 1 else None,
        tuple(onnxruntime.get_available_providers()),
    )


def runtime_version() -> str:
    """Of the one that is imported; "none" without one."""
    return str(getattr(onnxruntime, "__version__", "none"))


def library() -> Path:
    """The runtime for who calls it from C; raises `StartError` where there is none."""
    if onnxruntime is None:
        raise StartError(MISSING)
    folder = Path(onnxruntime.__file__).parent / "capi"
    version = ".".join(onnxruntime.__version__.split(".")[:3])
    names = [name.format(version) for name in _LIBRARY_NAMES]
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise StartError(f"{folder}: this build of ONNX Runtime has no {' or '.join(names)}")


def _wheels() -> Iterator[str]:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield f"{name} {importlib.metadata.version(name)}"


def load_cuda() -> None:
    """Loads the libraries of CUDA that PyPI's packages have, where the linker would not look."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
        onnxruntime.preload_dlls()


def trial_failure(device: Device) -> str | None:
    """Runs a tiny graph on a device that CUDA's libraries are loaded for; None if that works."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    x = np.ones((SIDE, SIDE), np.float32)
    onnxruntime.set_default_logger_severity(QUIET)
    try:
        # Without `enable_fallback=0` it prints an error and takes the CPU.
        session = onnxruntime.InferenceSession(
            TRIAL_GRAPH, options, providers=[_cuda_provider(device)], enable_fallback=0
        )
        (y,) = session.run(None, {"x": x})
    except Exception as error:  # the runtime's own exceptions have no common base
        return _provider_failure() or first_line(error)
    return None if np.array_equal(y, x @ x) else f"{SIDE} x {SIDE} ones are multiplied wrong"


def _provider_failure() -> str | None:
    """Why the runtime could not load its own library for CUDA, which it only tells its log."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        # Only now: loaded before the runtime does it, the library would not find the runtime.
        ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return str(error)
    return None


def open_session(
    model_file: Path,
    device: Device,
    threads: int,
    *,
    cuda_graphs: bool = False,
    stream: int | None = None,
) -> "onnxruntime.InferenceSession":
    """A graph on a device, ready to run; with `cuda_graphs` CUDA may capture its calls, which
    happen in a `stream` of CUDA's.

    Raises `StartError`, and `Misplaced` where the work would be done on the CPU instead.
    """
    options = _session_options(threads)
    with loading(model_file):
        if device.kind is DeviceKind.CPU:
            return onnxruntime.InferenceSession(model_file, options, providers=[_CPU_PROVIDER])
        return _on_cuda(model_file, options, _cuda_provider(device, cuda_graphs, stream))


def _session_options(threads: int) -> "onnxruntime.SessionOptions":
    if onnxruntime is None:
        raise StartError(MISSING)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    for name, value in SESSION_SETTINGS.items():
        options.add_session_config_entry(name, value)
    options.enable_mem_pattern = False  # shapes vary, and a pattern is kept for each
    options.log_severity_level = QUIET
    return options


@contextlib.contextmanager
def loading(model_file: Path) -> Iterator[None]:
    """Whatever the runtime raises while it loads a graph becomes a `StartError`."""
    try:
        yield
    except StartError:
        raise
    except Exception as error:  # the runtime's own exceptions have no common base
        raise StartError(
            f"{model_file}: ONNX Runtime cannot load it: {first_line(error)}"
        ) from None


def _on_cuda(
    model_file: Path,
    options: "onnxruntime.SessionOptions",
    provider: Provider,
) -> "onnxruntime.InferenceSession":
    # Else weights lie in the arena, which takes up to twice what it is asked for.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(
        # The CPU's, too: a few nodes that only compute shapes belong there.
        model_file,
        options,
        providers=[provider, _CPU_PROVIDER],
        enable_fallback=0,
    )
    if operators := misplaced(session):
        device = f"cuda:{provider[1]['device_id']}"
        raise Misplaced(f"{model_file}: {device} has no kernel for its {' and '.join(operators)}")
    return session


def _cuda_provider(
    device: Device, cuda_graphs: bool = False, stream: int | None = None
) -> Provider:
    options = {"device_id": str(device.index), "enable_cuda_graph": str(int(cuda_graphs))}
    if stream is not None:
        options["user_compute_stream"] = str(stream)
    return _CUDA_PROVIDER, options


def run_options(cuda_graph: int | None = None) -> "onnxruntime.RunOptions":
    """`cuda_graph` is the number of the CUDA graph that the first call makes and each later one
    replays; None for calls outside of any."""
    options = onnxruntime.RunOptions()
    settings = CALL_SETTINGS if cuda_graph is None else {"gpu_graph_id": str(cuda_graph)}
    # A call on a device ends when it is queued there: who reads what it gives waits for that.
    settings = {**settings, "disable_synchronize_execution_providers": "1"}
    for name, value in settings.items():
        options.add_run_config_entry(name, value)
    return options


def misplaced(session: "onnxruntime.InferenceSession") -> list[str]:
    """Operators that belong on the device and are not there; all of them, if nothing is."""
    return sorted(
        {
            node.op_type
            for subgraph in session.get_provider_graph_assignment_info()
            if subgraph.ep_name != _CUDA_PROVIDER
            for node in subgraph.get_nodes()
            if node.op_type in _ON_THE_DEVICE
        }
    )


def first_line(error: Exception) -> str:
    """Of a message, without the places in the runtime's sources that it went through; of what CUDA
    and its libraries refuse, their own words."""
    line = _PLACES.sub("", str(error).partition("\n")[0])
    failure = _FAILURE.search(line)
    return (failure[0] if failure else line).strip()
