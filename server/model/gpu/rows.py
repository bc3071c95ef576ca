"""The rows of logits that calls leave on a device, and what is read of them.

Knows the outputs that `model_tools.graph.selection` adds to a graph; does not know what is called.
"""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from server.model.candidates import Candidates
from server.model.gpu.bindings import Binding, Placed
from server.model.gpu.memory import Block, DeviceMemory, Landing
from server.model.graph_interface import GraphInterface
from server.model.tensor_types import Logits

Restore = Callable[[], None]
"""Computes the logits of a call again, if another one has overwritten them."""
FLOAT_BYTES = 4


class RowSummary:
    """The candidates and log-sum-exp of a call's rows, once `landing` has them on the host."""

    def __init__(self, landing: Landing, rows: int, candidates: int) -> None:
        self.landing = landing
        ids, largest = 8 * rows * candidates, 4 * rows * candidates
        by_row = (rows, candidates)
        parts = np.split(landing.array, [ids, ids + largest])
        self.ids = parts[0].view(np.int64).reshape(by_row)
        self.largest = parts[1].view(np.float32).reshape(by_row)
        self.sums = parts[2].view(np.float32).reshape(rows, 1)


class DeviceRows:
    """The outputs of calls that give `rows` rows, at addresses that never change.

    Candidates lie side by side, so that one copy brings all of them to the host. It has two buffers
    for them: one call's are read there while the next one's are on their way.
    """

    def __init__(
        self, memory: DeviceMemory, graph: GraphInterface, rows: int, logits: Block
    ) -> None:
        """`logits` has room for all rows; calls may share it."""
        self._memory = memory
        self._logits = logits
        self.count = rows
        self._width = graph.vocabulary_size
        self._candidates = graph.candidates or 0
        nbytes = rows * (self._candidates * (8 + 4) + 4)
        self._block = memory.reserve(nbytes)
        self._here = [RowSummary(memory.landing(nbytes), rows, self._candidates) for _ in range(2)]
        self._turns = itertools.cycle(self._here)

    def bind(self, binding: Binding, shape: tuple[int, ...]) -> None:
        """Binds them as outputs of a call whose logits are [*shape, V]."""
        logits = Placed(self._logits.address, np.dtype(np.float32), (*shape, self._width))
        binding.output("logits", logits)
        if not self._candidates:
            return
        summary = self._here[0]
        outputs: list[tuple[str, NDArray[np.int64] | NDArray[np.float32]]] = [
            ("candidate_ids", summary.ids),
            ("candidate_logits", summary.largest),
            ("log_sum_exp", summary.sums),
        ]
        first = summary.ids.ctypes.data
        for name, array in outputs:
            address = self._block.address + array.ctypes.data - first
            binding.output(name, Placed(address, array.dtype, array.shape))

    def fetch(self) -> RowSummary | None:
        """Queues the copy of a call's summary to the host; None where the graph has none."""
        if not self._candidates:
            return None
        summary = next(self._turns)
        summary.landing.fetch(self._block.address)
        return summary

    def read(
        self, summary: RowSummary | None, count: int, restore: Restore
    ) -> list[Candidates] | Logits:
        """Returns the first `count` rows: candidates, after a wait for the summary, or logits."""
        if summary is None:
            logits = np.empty((count, self._width), np.float32)
            self._memory.read(self._logits.address, logits)
            return logits
        summary.landing.wait()
        ids, largest = summary.ids[:count], summary.largest[:count]
        rows = zip(ids, largest, summary.sums[:count, 0].tolist(), _best(ids, largest), strict=True)
        return [
            Candidates(top, logits, log_sum_exp, best, partial(self._row, row, restore))
            for row, (top, logits, log_sum_exp, best) in enumerate(rows)
        ]

    def copy_best(self, address: int) -> None:
        """Queues a copy of the most probable token of each row, on the device."""
        size = np.dtype(np.int64).itemsize
        pitches = (self._candidates * size, size)
        self._memory.copy(
            self._block.address, address, rows=self.count, row_bytes=size, pitches=pitches
        )

    def _row(self, row: int, restore: Restore) -> Logits:
        restore()
        logits = np.empty(self._width, np.float32)
        self._memory.read(self._logits.address + row * self._width * FLOAT_BYTES, logits)
        return logits


def _best(ids: NDArray[np.int64], logits: NDArray[np.float32]) -> list[int | None]:
    """Returns `Candidates.best` of each row [k]."""
    if logits.shape[1] == 1:
        return [None] * len(ids)
    alone = (logits[:, 0] > logits[:, 1]).tolist()
    return [each if only else None for each, only in zip(ids[:, 0].tolist(), alone, strict=True)]


class PromptRows:
    """`DeviceRows` of prefills, by the number of rows. They share one buffer of logits."""

    def __init__(self, memory: DeviceMemory, graph: GraphInterface) -> None:
        self._memory = memory
        self._graph = graph
        self._rows: dict[int, DeviceRows] = {}
        self._room = 0

    def of(self, tokens: int, keep: int) -> DeviceRows:
        """Returns the rows of a call over `tokens` tokens that keeps the last `keep` of them, or
        all where that is 0."""
        count = keep or tokens if self._graph.keeps_last else tokens
        if count > self._room:
            self._rows.clear()
            nbytes = FLOAT_BYTES * self._graph.vocabulary_size * count
            self._logits = self._memory.reserve(nbytes)
            self._room = count
        if count not in self._rows:
            self._rows[count] = DeviceRows(self._memory, self._graph, count, self._logits)
        return self._rows[count]
