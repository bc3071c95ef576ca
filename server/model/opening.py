"""A model folder opened on a device: which decoder runs it there, and with what memory."""

from server.config import Device, DeviceKind
from server.errors import StartError
from server.model.cuda_memory import CudaError, CudaMemory, find_library
from server.model.device_decoder import DeviceDecoder
from server.model.device_memory import DeviceMemory, HostMemory
from server.model.folder import ModelFolder
from server.model.runtime import open_session, run_options
from server.model.session import OnnxDecoder


def open_decoder(
    folder: ModelFolder,
    device: Device,
    *,
    slots: int,
    context: int,
    threads: int,
    cuda_graphs: bool = True,
) -> OnnxDecoder | DeviceDecoder:
    """`threads` is the number of cores that one call uses. Raises `StartError`, and `MemoryError`
    where the device has no room."""
    if device.kind is DeviceKind.CPU:
        return OnnxDecoder(folder, slots=slots, context=context, threads=threads)
    return open_device_decoder(
        folder, device, slots=slots, context=context, threads=threads, cuda_graphs=cuda_graphs
    )


def open_device_decoder(
    folder: ModelFolder,
    device: Device,
    *,
    slots: int,
    context: int,
    threads: int,
    cuda_graphs: bool,
) -> DeviceDecoder:
    """Also of the CPU, where it is slower than `OnnxDecoder` and does the same: so what a GPU will
    run is run without one. Raises as `open_decoder` does."""
    try:
        session = open_session(folder.model_file, device, threads, cuda_graphs=cuda_graphs)
    except StartError as error:
        hint = "; --no-cuda-graphs may run it" if "graph capture" in str(error) else ""
        raise StartError(f"{error}{hint}") from None
    try:
        return DeviceDecoder(
            session,
            memory_of(device),
            run_options,
            name=str(folder.model_file),
            slots=slots,
            context=context,
            cuda_graphs=cuda_graphs,
        )
    except CudaError as error:
        raise StartError(f"{device} cannot be used: {error}") from None


def memory_of(device: Device) -> DeviceMemory:
    """Raises `StartError`, and `CudaError`."""
    if device.kind is DeviceKind.CPU:
        return HostMemory()
    return CudaMemory(device, find_library())
