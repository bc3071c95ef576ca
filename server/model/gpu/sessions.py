"""The one door to the Python module `onnxruntime`: sessions on a device, and how it was built.

Knows where a graph's nodes went; does not know what its inputs mean.
"""

import contextlib
import ctypes
import importlib.metadata
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from server.config import Device, DeviceKind
from server.errors import StartError
from server.model.gpu.trial_graph import SIDE, TRIAL_GRAPH
from server.model.runtime import (
    CALL_SETTINGS,
    MISSING,
    QUIET,
    SESSION_SETTINGS,
    Misplaced,
    first_line,
    loading,
)

try:
    import onnxruntime
except ModuleNotFoundError:
    onnxruntime = None

_CPU_PROVIDER, _CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
_ON_THE_DEVICE = {"GroupQueryAttention", "MatMulNBits", "PagedAttention"}
"""If a device has no kernel for one of these operators, a model is slower than on the CPU alone."""
Provider = tuple[str, dict[str, str]]
"""The name of an execution provider, and its options."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The ONNX Runtime that is imported."""

    version: str
    wheels: tuple[str, ...]
    """The installed distributions of the module, such as "onnxruntime-gpu 1.31.1"."""
    cuda: tuple[int, int] | None
    """The CUDA that it was built with."""
    providers: tuple[str, ...]
    """The execution providers that it was built with, whether or not they work here."""

    @property
    def has_cuda(self) -> bool:
        return _CUDA_PROVIDER in self.providers


def find_runtime() -> Runtime | None:
    """Describes the imported runtime; None if there is none."""
    if onnxruntime is None:
        return None
    built_with = str(getattr(onnxruntime, "cuda_version", "")).split(".")
    return Runtime(
        onnxruntime.__version__,
        tuple(_wheels()),
        (int(built_with[0]), int(built_with[1])) if len(built_with) > 1 else None,
        tuple(onnxruntime.get_available_providers()),
    )


def _wheels() -> Iterator[str]:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield f"{name} {importlib.metadata.version(name)}"


def load_cuda() -> None:
    """Loads CUDA's libraries from PyPI's packages, where the linker would not look."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
        onnxruntime.preload_dlls()


def trial_failure(device: Device) -> str | None:
    """Runs a tiny graph on a device and returns what failed, or None. Call `load_cuda` first."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    x = np.ones((SIDE, SIDE), np.float32)
    onnxruntime.set_default_logger_severity(QUIET)
    try:
        # Without `enable_fallback=0` it prints an error and uses the CPU.
        session = onnxruntime.InferenceSession(
            TRIAL_GRAPH, options, providers=[_cuda_provider(device)], enable_fallback=0
        )
        (y,) = session.run(None, {"x": x})
    except Exception as error:  # the runtime's own exceptions have no common base
        return _provider_failure() or first_line(error)
    return None if np.array_equal(y, x @ x) else f"{SIDE} x {SIDE} ones are multiplied wrong"


def _provider_failure() -> str | None:
    """Returns why the runtime could not load its own CUDA library, which only its log would
    show."""
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
    """Opens a graph on a device. With `cuda_graphs`, CUDA may capture its calls; these run in
    CUDA's `stream`.

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


def _on_cuda(
    model_file: Path,
    options: "onnxruntime.SessionOptions",
    provider: Provider,
) -> "onnxruntime.InferenceSession":
    # Otherwise weights lie in the arena, which reserves up to twice what it is asked for.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(
        model_file,
        options,
        # The CPU's, too: a few nodes that only compute shapes belong there.
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
    """`cuda_graph` is the number of the CUDA graph that the first call captures and each later one
    replays; None for calls outside of any."""
    options = onnxruntime.RunOptions()
    settings = CALL_SETTINGS if cuda_graph is None else {"gpu_graph_id": str(cuda_graph)}
    # A call returns as soon as it is queued on the device; whoever reads its outputs waits.
    settings = {**settings, "disable_synchronize_execution_providers": "1"}
    for name, value in settings.items():
        options.add_run_config_entry(name, value)
    return options


def misplaced(session: "onnxruntime.InferenceSession") -> list[str]:
    """Returns the operators that belong on the device and were assigned elsewhere."""
    return sorted(
        {
            node.op_type
            for subgraph in session.get_provider_graph_assignment_info()
            if subgraph.ep_name != _CUDA_PROVIDER
            for node in subgraph.get_nodes()
            if node.op_type in _ON_THE_DEVICE
        }
    )
