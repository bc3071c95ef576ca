"""Measures speed, and how near it is to what the bandwidth of the device's memory allows."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from model_tools.gpu_check.cells import Cell
from model_tools.gpu_check.drawing import CountingSampler, Tally
from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.loaded import LoadedModel
from model_tools.gpu_check.streams import NewSampler, Streams, random_prompt, room_for
from server.engine.sampling import Sampler
from server.model.gpu.memory import DeviceMemory

_ROW = 1 << 20
"""Bytes that are copied as one row."""
_COPIES = 10
_REPETITIONS = 3

Kernels = Callable[[Callable[[], None]], float | None]
"""Runs something and returns the seconds that the device was busy with it; None if unknown."""


def copy_bandwidth(memory: DeviceMemory, nbytes: int) -> float:
    """Bytes per second of a copy inside the device; reads and writes both count."""
    rows = max(nbytes // 2 // _ROW, 1)
    row = min(nbytes // 2, _ROW)
    one, other = memory.reserve(rows * row), memory.reserve(rows * row)

    def copies(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            memory.copy(one.address, other.address, rows=rows, row_bytes=row, pitches=(row, row))
        memory.settle()
        return time.perf_counter() - begin

    copies(2)
    return 2 * rows * row * _COPIES / min(copies(_COPIES) for _ in range(_REPETITIONS))


def prompt_speed(model: LoadedModel, name: str, tokens: int) -> Finding:
    """Times reading a prompt in one call, the best of 3. Raises `DoesNotFit`."""
    decoder = model.decoder(slots=1, context=tokens + 1)
    prompt = random_prompt(decoder.vocabulary_size, tokens)
    seconds = []
    for _ in range(1 + _REPETITIONS):
        begin = time.perf_counter()
        decoder.prefill(0, 0, prompt)
        seconds.append(time.perf_counter() - begin)
    best = min(seconds[1:])
    return Finding(
        name, f"prompt of {tokens}", 1, 0, tokens_per_second=tokens / best, step_ms=1e3 * best
    )


def decode_speed(
    model: LoadedModel, name: str, cell: Cell, *, steps: int, bandwidth: float, kernels: Kernels
) -> Finding:
    """Times whole steps of the engine, without text: the plan, the call, the tokens. All sequences
    have the same prompt, which is read once and copied. With pages, each sequence gets pages of
    its own, since pages shared by all would be read from memory only once. Raises
    `DoesNotFit`."""
    batch, past = cell.batch, cell.past
    context = room_for(past, batch, 2 * steps)
    decoder = model.decoder(slots=batch, context=context)
    tally = Tally()
    # Greedy rows are not counted: counting would take 4 % of a step of 32 rows.
    sampler: NewSampler = partial(CountingSampler, tally=tally)
    streams = Streams(decoder, sampler=Sampler if cell.greedy else sampler)
    prompt = random_prompt(decoder.vocabulary_size, past)
    sequences = [
        streams.submit(prompt, context - len(prompt), replace(cell.sampling, seed=row))
        for row in range(batch)
    ]
    streams.begin(sequences)
    if decoder.pages:
        for slot in range(batch):
            decoder.pages.open(slot, 0, past)
    timing = streams.timed(steps)

    def more() -> None:
        for _ in range(steps):
            streams.step()

    busy = kernels(more) if cell.greedy else None  # sampling adds no kernels, and may take long
    must_be_read = model.bytes_read + batch * past * decoder.token_bytes
    return Finding(
        name,
        cell.what,
        batch,
        past,
        tokens_per_second=batch / timing.step,
        step_ms=1e3 * timing.step,
        outside_runtime=1 - timing.runtime / timing.step,
        kernels_ms=None if busy is None else 1e3 * busy / steps,
        of_bandwidth=must_be_read / timing.step / bandwidth,
        note=str(tally) if tally.rows else "",
    )
