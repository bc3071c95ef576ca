"""The fake device's graph with keys and values in pages, and a decoder on it."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from server.model.gpu.paged_kv import PagedKv
from tests.engine.fake_decoder import VOCABULARY, logits_after
from tests.model.gpu.fake_device import (
    HEAD_DIM,
    HEADS,
    Captured,
    FakeDevice,
    FakeSession,
    Misused,
    Node,
)

PAGE_TOKENS = 4
PAGE_BYTES = PAGE_TOKENS * HEADS * HEAD_DIM * (4 + 2)


class FakePagedSession(FakeSession):
    """Tokens of all rows one after the other, written to and found in the pages of each row. The
    last page is the one that rows without a sequence write to."""

    def get_inputs(self) -> list[Node]:
        kv: list[int | str | None] = ["num_blocks", PAGE_TOKENS, HEADS, HEAD_DIM]
        return [
            Node("input_ids", "tensor(int64)", ["tokens"]),
            Node("cumulative_sequence_lengths", "tensor(int32)", ["batch + 1"]),
            Node("past_sequence_lengths", "tensor(int32)", ["batch"]),
            Node("block_table", "tensor(int32)", ["batch", "most_pages"]),
            Node("attention_metadata", "tensor(int32)", [3]),
            Node("past_key_values.0.key", "tensor(float)", kv),
            Node("past_key_values.0.value", "tensor(bfloat16)", kv),
        ]

    def get_outputs(self) -> list[Node]:
        _, *others = super().get_outputs()
        return [Node("logits", "tensor(float)", ["kept", VOCABULARY]), *others]

    def _run(self, call: Captured) -> None:
        ids, ends, pasts, table = (
            self.memory.array(call.inputs[name]).astype(np.int64)
            for name in (
                *("input_ids", "cumulative_sequence_lengths", "past_sequence_lengths"),
                "block_table",
            )
        )
        self.calls.append(ids.shape)
        keys, values = self._kv(call)
        shapes_fit = len(ends) == len(pasts) + 1 and len(table) == len(pasts)
        if ends[0] != 0 or ends[-1] != len(ids) or not shapes_fit:
            raise Misused(f"rows of {len(ids)} tokens end at {ends}")
        self._check_pages(call, ends, pasts, table, spare=len(keys) - 1)
        rows = []
        for (start, end), past, pages in zip(pairwise(ends), pasts, table, strict=True):
            new = ids[start:end]
            places = np.arange(past + len(new))
            where = pages[places // PAGE_TOKENS], places % PAGE_TOKENS
            written = tuple(each[past:] for each in where)
            keys[written] = new[:, np.newaxis, np.newaxis]
            values[written] = new[:, np.newaxis, np.newaxis] + 1
            held = (each[where].transpose(1, 0, 2) for each in (keys, values))
            history = self._history(*held)
            rows += [logits_after(history[: past + n + 1]) for n in range(len(new))]
        self._give(call, np.stack(rows)[-call.keep :])

    @staticmethod
    def _check_pages(
        call: Captured,
        ends: NDArray[np.int64],
        pasts: NDArray[np.int64],
        table: NDArray[np.int64],
        spare: int,
    ) -> None:
        if table.min() < 0 or table.max() > spare:
            raise Misused(f"there are no pages {table.min()} or {table.max()}")
        counts = np.diff(ends)
        totals, taken = pasts + counts, set[int]()
        for past, total, pages in zip(pasts, totals, table, strict=True):
            written = set(pages[past // PAGE_TOKENS : -(-total // PAGE_TOKENS)].tolist())
            if written & taken - {spare}:
                raise Misused(f"two rows write to pages {written & taken}")
            taken |= written
        most_new, most, least = call.host["attention_metadata"]
        live = (table[:, 0] != spare).any()  # else it only warms up
        if counts.max() > most_new or totals.max() > most or (live and totals.max() < least):
            raise Misused(f"bounds {(most_new, most, least)} of {counts} and {totals}")


class PagedDevice(FakeDevice):
    """With so many pages in all, or as many as all slots can need."""

    session_type = FakePagedSession

    def __init__(
        self,
        *,
        slots: int = 5,
        context: int = 30,
        graphs: bool = True,
        tells: bool = True,
        pages: int | None = None,
        always_ahead: bool = False,
    ) -> None:
        super().__init__(
            slots=slots,
            context=context,
            graphs=graphs,
            tells=tells,
            kv_bytes=None if pages is None else pages * PAGE_BYTES,
            always_ahead=always_ahead,
        )
        assert self.decoder.pages
        self.kv: PagedKv = self.decoder.pages
