"""The one door to `onnxruntime`: the module, as a server wants it, and sessions on a device.

Knows how a graph is loaded; does not know what its inputs mean.
"""

import os
from pathlib import Path

from server.config import Device, DeviceKind
from server.errors import StartError
from server.model.heap import huge_pages, share_one_heap

__all__ = ["first_line", "onnxruntime", "open_session"]

# Its wheels report to Microsoft unless told not to before they are imported; a server tells nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime
except ModuleNotFoundError:
    onnxruntime = None

share_one_heap()  # here, before there is a thread that loads a model

_PREPACKED = 1.25
"""Bytes that weights take as the runtime's kernels want them, to one on disk, at most."""
_CPU_PROVIDER, _CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"


def open_session(model_file: Path, device: Device, threads: int) -> "onnxruntime.InferenceSession":
    """A graph on a device, ready to run. Raises `StartError`."""
    if onnxruntime is None:
        raise StartError(
            "ONNX Runtime is not installed: pip install 'skiff-llm[cpu]' or 'skiff-llm[gpu]'"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # shapes vary, and a pattern is kept for each
    # Else one thread packs all weights: a third of the time that loading takes.
    options.add_session_config_entry("session.prepack.enable_parallel", "1")
    options.log_severity_level = 4  # what goes wrong comes as an exception, and is told once
    on_disk = model_file.parent.glob(f"{model_file.name}*")
    size = int(_PREPACKED * sum(file.stat().st_size for file in on_disk))
    providers = _providers(device)
    try:
        with huge_pages(size):
            session = onnxruntime.InferenceSession(model_file, options, providers=providers)
    except Exception as error:  # the runtime's own exceptions have no common base
        raise StartError(
            f"{model_file}: ONNX Runtime cannot load it: {first_line(error)}"
        ) from None
    # Where it cannot have a provider, the runtime takes the CPU and says so in its log only.
    if device.kind is DeviceKind.CUDA and _CUDA_PROVIDER not in session.get_providers():
        raise StartError(f"{device} cannot be had: ONNX Runtime falls back to the CPU")
    return session


def _providers(device: Device) -> list[str | tuple[str, dict[str, str]]]:
    if device.kind is DeviceKind.CPU:
        return [_CPU_PROVIDER]
    if _CUDA_PROVIDER not in onnxruntime.get_available_providers():
        raise StartError(f"{device} cannot be had: this ONNX Runtime is made for the CPU")
    onnxruntime.preload_dlls()
    # The CPU's provider, too: a few nodes that only compute shapes belong there.
    return [(_CUDA_PROVIDER, {"device_id": str(device.index)}), _CPU_PROVIDER]


def first_line(error: Exception) -> str:
    """The first line of a message; that of the runtime may have several."""
    return str(error).partition("\n")[0]
