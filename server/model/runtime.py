"""The one door to `onnxruntime`: the module, as a server wants it, and sessions on a device.

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
from server.model.heap import give_back, huge_pages, share_one_heap
from server.model.mapped_file import forget_pages
from server.model.trial_graph import SIDE, TRIAL_GRAPH

__all__ = ["onnxruntime"]

# Its wheels report to Microsoft unless told not to before they are imported; a server tells nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime
except ModuleNotFoundError:
    onnxruntime = None

share_one_heap()  # here, before there is a thread that loads a model

MISSING = "ONNX Runtime is not installed: pip install 'skiff-llm[cpu]' or 'skiff-llm[gpu]'"
_PREPACKED = 1.25
"""Bytes that weights take as the runtime's kernels want them, to one on disk, at most."""
PACKED_WEIGHTS = "packed.data"
"""The file that `save_packed` writes beside a graph."""
_CPU_PROVIDER, _CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
_ON_THE_DEVICE = {"GroupQueryAttention", "MatMulNBits", "PagedAttention"}
"""Operators that make a model slower than on the CPU alone where a device has no kernel for one."""
_PLACES = re.compile(r"^.*\[ONNXRuntimeError\] : [0-9]+ : [A-Z_]+ : ")
_FAILURE = re.compile(r"\b[A-Z]+ failure [0-9]+: [^;]*")
_SPIN_MICROSECONDS = "500"
"""For so long a session's threads turn in a loop when a call has ended, so that the next one of a
decode loop finds them awake. Without an end to it, the threads of one graph turned beside the calls
of another, which then took half as long again."""
Provider = tuple[str, dict[str, str]]
"""An execution provider of the runtime's, and its options."""
_QUIET = 4
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


def build() -> str:
    """What tells this runtime from any other, in its own words."""
    if onnxruntime is None:
        raise StartError(MISSING)
    return f"{onnxruntime.__version__} {onnxruntime.get_build_info()}"


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
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    x = np.ones((SIDE, SIDE), np.float32)
    onnxruntime.set_default_logger_severity(_QUIET)
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
    # Else one thread packs all weights: a third of the time that loading takes.
    options.add_session_config_entry("session.prepack.enable_parallel", "1")
    with _loading(model_file):
        if device.kind is DeviceKind.CPU:
            return _on_cpu(model_file, options)
        return _on_cuda(model_file, options, _cuda_provider(device, cuda_graphs, stream))


def save_packed(model_file: Path, copy: Path) -> None:
    """Writes a graph as it is run on this CPU, with weights as the kernels want them in a file
    beside it. Sessions that open the copy take them from there and pack nothing.

    It is good for this build of the runtime on processors with the same instructions, and nobody
    checks that. Raises `StartError`.
    """
    options = _session_options(threads=1)  # of what is written, none depends on their number
    options.optimized_model_filepath = str(copy)
    for name, value in {
        "save_external_prepacked_constant_initializers": "1",
        "optimized_model_external_initializers_file_name": PACKED_WEIGHTS,
        "optimized_model_external_initializers_min_size_in_bytes": "1024",
    }.items():
        options.add_session_config_entry(f"session.{name}", value)
    with _loading(model_file):
        onnxruntime.InferenceSession(model_file, options, providers=[_CPU_PROVIDER])
    give_back()


def _session_options(threads: int) -> "onnxruntime.SessionOptions":
    if onnxruntime is None:
        raise StartError(MISSING)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
    options.enable_mem_pattern = False  # shapes vary, and a pattern is kept for each
    options.log_severity_level = _QUIET
    return options


@contextlib.contextmanager
def _loading(model_file: Path) -> Iterator[None]:
    try:
        yield
    except StartError:
        raise
    except Exception as error:  # the runtime's own exceptions have no common base
        raise StartError(
            f"{model_file}: ONNX Runtime cannot load it: {first_line(error)}"
        ) from None


def _on_cpu(
    model_file: Path, options: "onnxruntime.SessionOptions"
) -> "onnxruntime.InferenceSession":
    if model_file.with_name(PACKED_WEIGHTS).exists():
        # They are used where they are mapped, so that sessions and processes share them.
        session = onnxruntime.InferenceSession(model_file, options, providers=[_CPU_PROVIDER])
        give_back()
        return session
    on_disk = list(model_file.parent.glob(f"{model_file.name}*"))
    size = int(_PREPACKED * sum(file.stat().st_size for file in on_disk))
    with huge_pages(size):
        session = onnxruntime.InferenceSession(model_file, options, providers=[_CPU_PROVIDER])
    for file in on_disk:
        forget_pages(file)  # of what is packed, the runtime lets go of most, but not of all
    return session


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
    replays; None for calls outside of any.

    Where options have no number at all, each call looks for it in vain, which costs a C++ exception
    and a search through the whole library for who catches it: 1 % of a small model's step.
    """
    options = onnxruntime.RunOptions()
    # A call on a device ends when it is queued there: who reads what it gives waits for that.
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    number = -1 if cuda_graph is None else cuda_graph  # the runtime's word for none
    options.add_run_config_entry("gpu_graph_id", str(number))
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
