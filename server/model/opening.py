"""Opens a model folder on a device, with the decoder and the memory for it."""

import logging
from functools import partial

from server.config import Device, DeviceKind
from server.errors import StartError
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder
from server.model.gpu.cuda_memory import CudaError, CudaMemory, find_library
from server.model.gpu.decoder import DeviceDecoder
from server.model.gpu.memory import DeviceMemory, HostMemory
from server.model.runtime import open_session, run_options

log = logging.getLogger(__name__)


def open_decoder(
    folder: ModelFolder,
    device: Device,
    *,
    slots: int,
    context: int,
    threads: int,
    cuda_graphs: bool = True,
    kv_bytes: int | None = None,
) -> CpuDecoder | DeviceDecoder:
    """`threads` is the number of cores that calls use; `kv_bytes` limits keys and values in
    pages. Raises `StartError`, and `MemoryError` where the device has no room."""
    if device.kind is DeviceKind.CPU:
        if kv_bytes is not None:
            raise StartError("--kv-mib is for CUDA: the CPU's memory is taken as it is needed")
        return open_cpu_decoder(folder, slots=slots, context=context, threads=threads)
    return open_device_decoder(
        folder,
        device,
        slots=slots,
        context=context,
        threads=threads,
        cuda_graphs=cuda_graphs,
        kv_bytes=kv_bytes,
    )


def open_cpu_decoder(folder: ModelFolder, *, slots: int, context: int, threads: int) -> CpuDecoder:
    """Reads prompts beside other calls if there are two slots and two threads, and if sessions can
    share the weights. Raises as `open_decoder` does."""
    opened = partial(CpuDecoder, folder, slots=slots, context=context, threads=threads)
    if slots == 1 or threads == 1:
        return opened()
    try:
        return opened(beside=True)
    except StartError as error:
        obstacle = str(error)
    decoder = opened()
    # Logged only now: any call might have failed.
    log.warning("prompts are not read beside decode rows: %s", obstacle)
    return decoder


def open_device_decoder(
    folder: ModelFolder,
    device: Device,
    *,
    slots: int,
    context: int,
    threads: int,
    cuda_graphs: bool,
    kv_bytes: int | None = None,
) -> DeviceDecoder:
    """Also for the CPU, where it is slower than `CpuDecoder` and does the same: so the code for
    GPUs runs without one. Raises as `open_decoder` does."""
    try:
        memory = memory_of(device)
        try:
            session = open_session(
                folder.model_file, device, threads, cuda_graphs=cuda_graphs, stream=memory.stream
            )
        except StartError as error:
            hint = "; --no-cuda-graphs may run it" if "graph capture" in str(error) else ""
            raise StartError(f"{error}{hint}") from None
        return DeviceDecoder(
            session,
            memory,
            run_options,
            name=str(folder.model_file),
            slots=slots,
            context=context,
            cuda_graphs=cuda_graphs,
            kv_bytes=kv_bytes,
        )
    except CudaError as error:
        raise StartError(f"{device} cannot be used: {error}") from None


def memory_of(device: Device) -> DeviceMemory:
    """Raises `StartError`, and `CudaError`."""
    if device.kind is DeviceKind.CPU:
        return HostMemory()
    return CudaMemory(device, find_library())
