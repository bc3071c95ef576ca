"""Where calls leave their rows of logits on a device, and what is read of them.

Knows the outputs that `model_tools.selection` adds to a graph; does not know what is called.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from server.model.bindings import Binding, Placed
from server.model.candidates import Candidates
from server.model.device_memory import Block, DeviceMemory
from server.model.graph_interface import GraphInterface

Logits = NDArray[np.float32]
_FLOAT_BYTES = 4


class DeviceRows:
    """The outputs of calls that give `rows` rows, at addresses that never change.

    Candidates lie side by side, so that one copy brings all of them to the host.
    """

    def __init__(
        self, memory: DeviceMemory, graph: GraphInterface, rows: int, logits: Block
    ) -> None:
        """`logits` has room for all rows; calls may share it."""
        self._memory = memory
        self._logits = logits
        self.count = rows
        self._width = graph.vocabulary_size
        self._count = graph.candidates or 0
        ids, largest = 8 * rows * self._count, 4 * rows * self._count
        self._host = np.zeros(ids + largest + 4 * rows, np.uint8)
        self._told = memory.reserve(self._host.nbytes)
        by_row = (rows, self._count)
        self._ids = self._host[:ids].view(np.int64).reshape(by_row)
        self._largest = self._host[ids : ids + largest].view(np.float32).reshape(by_row)
        self._sums = self._host[ids + largest :].view(np.float32).reshape(rows, 1)

    def bind(self, binding: Binding, shape: tuple[int, ...]) -> None:
        """As outputs of a call whose logits are [*shape, V]."""
        logits = Placed(self._logits.address, np.dtype(np.float32), (*shape, self._width))
        binding.output("logits", logits)
        if not self._count:
            return
        told: list[tuple[str, NDArray[np.int64] | NDArray[np.float32]]] = [
            ("candidate_ids", self._ids),
            ("candidate_logits", self._largest),
            ("log_sum_exp", self._sums),
        ]
        for name, array in told:
            offset = array.ctypes.data - self._host.ctypes.data
            binding.output(name, Placed(self._told.address + offset, array.dtype, array.shape))

    def read(self, count: int) -> list[Candidates] | Logits:
        """The first `count` rows: what is told of them, or where nothing is, their logits."""
        if not self._count:
            logits = np.empty((count, self._width), np.float32)
            self._memory.read(self._logits.address, logits)
            return logits
        self._memory.read(self._told.address, self._host)
        return [
            Candidates(ids, largest, log_sum_exp, partial(self._row, row))
            for row, (ids, largest, log_sum_exp) in enumerate(
                zip(
                    self._ids[:count],
                    self._largest[:count],
                    self._sums[:count, 0].tolist(),
                    strict=True,
                )
            )
        ]

    def _row(self, row: int) -> Logits:
        logits = np.empty(self._width, np.float32)
        self._memory.read(self._logits.address + row * self._width * _FLOAT_BYTES, logits)
        return logits


class PromptRows:
    """Those of calls over prompts, by how many there are. They share the place of the logits."""

    def __init__(self, memory: DeviceMemory, graph: GraphInterface) -> None:
        self._memory = memory
        self._graph = graph
        self._rows: dict[int, DeviceRows] = {}
        self._room = 0

    def of(self, tokens: int, keep: int) -> DeviceRows:
        """What a call over so many tokens leaves, of which the last `keep` are asked for, or all
        where that is 0."""
        count = keep or tokens if self._graph.keeps_last else tokens
        if count > self._room:
            self._rows.clear()
            nbytes = _FLOAT_BYTES * self._graph.vocabulary_size * count
            self._logits = self._memory.reserve(nbytes)
            self._room = count
        if count not in self._rows:
            self._rows[count] = DeviceRows(self._memory, self._graph, count, self._logits)
        return self._rows[count]
