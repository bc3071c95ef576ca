"""Opens a model folder on a GPU. Knows the decoder and its memory; does not know why a GPU."""

from server.config import Device, DeviceKind
from server.errors import StartError
from server.model.folder import ModelFolder
from server.model.gpu.cuda_memory import CudaError, CudaMemory, find_library
from server.model.gpu.decoder import DeviceDecoder
from server.model.gpu.memory import DeviceMemory, HostMemory
from server.model.gpu.sessions import open_session, run_options


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
            if "graph capture" not in str(error):
                raise
            raise StartError(f"{error}; --no-cuda-graphs may run it") from None
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
