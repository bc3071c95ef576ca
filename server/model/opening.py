"""Opens a model folder on a device, with the decoder and the memory for it.

The code for GPUs and the Python module `onnxruntime`, which only it uses, are imported where a GPU
is asked for: all others save 0.06 s at each start, and 20 MB.
"""

from functools import partial
from typing import TYPE_CHECKING

from server.config import Device, DeviceKind
from server.errors import StartError
from server.model.cpu.decoder import CpuDecoder, warn_not_beside
from server.model.folder import ModelFolder

if TYPE_CHECKING:
    from server.model.gpu.decoder import DeviceDecoder


def open_decoder(
    folder: ModelFolder,
    device: Device,
    *,
    slots: int,
    context: int,
    threads: int,
    cuda_graphs: bool = True,
    kv_bytes: int | None = None,
) -> "CpuDecoder | DeviceDecoder":
    """`threads` is the number of cores that calls use; `kv_bytes` limits keys and values in
    pages. Raises `StartError`, and `MemoryError` where the device has no room."""
    if device.kind is DeviceKind.CPU:
        if kv_bytes is not None:
            raise StartError("--kv-mib is for CUDA: the CPU's memory is taken as it is needed")
        return open_cpu_decoder(folder, slots=slots, context=context, threads=threads)
    from server.model.gpu.opening import open_device_decoder

    return open_device_decoder(
        folder,
        device,
        slots=slots,
        context=context,
        threads=threads,
        cuda_graphs=cuda_graphs,
        kv_bytes=kv_bytes,
    )


def cuda_obstacle(device: Device) -> str | None:
    """Returns why a CUDA device cannot be used; None if it works."""
    from server.model.gpu import cuda

    return cuda.cuda_obstacle(device)


def open_cpu_decoder(folder: ModelFolder, *, slots: int, context: int, threads: int) -> CpuDecoder:
    """Reads prompts beside other calls if there are two slots and two threads, and if sessions can
    share the weights. Raises as `open_decoder` does."""
    opened = partial(CpuDecoder, folder, slots=slots, context=context, threads=threads)
    if slots == 1 or threads == 1:
        return opened()
    try:
        return opened(beside=True)
    except StartError as error:
        decoder = opened()
        warn_not_beside(error)  # only now: any call might have failed
        return decoder
