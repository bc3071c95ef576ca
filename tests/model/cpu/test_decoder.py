"""A real graph gives the same logits however its calls are cut, batched and placed."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from server.engine.decoder import Decoder
from server.engine.scheduler import cut
from server.errors import Interrupted, StartError
from server.model.cpu.decoder import CpuDecoder
from server.model.cpu.graph_calls import GraphCalls
from server.model.cpu.host_graph import HostGraph
from server.model.folder import ModelFolder
from server.model.tensor_types import Logits, Tokens
from tests.model.tiny_folder import (
    CONTEXT,
    tiny_folder,
    with_position_ids,
    with_required_logits_to_keep,
    without_logits_to_keep,
)

TEXT: Tokens = np.random.default_rng(0).integers(0, 270, CONTEXT)
SLOTS = 4


def opened(folder: Path, threads: int = 1) -> CpuDecoder:
    read, beside = ModelFolder.read(folder), threads > 1
    return CpuDecoder(read, slots=SLOTS, context=CONTEXT, threads=threads, beside=beside)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CpuDecoder:
    return opened(tiny_folder(tmp_path_factory.mktemp("session") / request.param, request.param))


def copied(logits: Logits) -> Logits:
    """The next call may overwrite what it gave."""
    return logits.copy()


def read(decoder: CpuDecoder, slot: int, tokens: Tokens, lengths: list[int]) -> Logits:
    """Reads tokens in calls of these lengths; the logits of all of them."""
    rows, past = [], 0
    for length in lengths:
        chunk = tokens[past : past + length]
        rows.append(copied(decoder.prefill(slot, past, chunk, logits_to_keep=0)))
        past += length
    return np.concatenate(rows)


def continued(decoder: CpuDecoder, prompts: list[Tokens], steps: int) -> list[list[Logits]]:
    """Greedy steps of prompts side by side: each one's rows of logits."""
    rows = [[copied(decoder.prefill(i, 0, prompt))[0]] for i, prompt in enumerate(prompts)]
    for step in range(steps):
        newest = [int(row[-1].argmax()) for row in rows]
        pasts = [len(prompt) + step for prompt in prompts]
        for row, logits in zip(rows, copied(decoder.decode(newest, pasts)), strict=True):
            row.append(logits)
    return rows


@st.composite
def cuts(draw: st.DrawFn, tile: int) -> list[int]:
    """A prompt's length and its calls, as the scheduler cuts them."""
    left, lengths = draw(st.integers(1, CONTEXT)), []
    while left:
        lengths.append(cut(left, draw(st.integers(4, CONTEXT)), tile))
        left -= lengths[-1]
    return lengths


def test_many_rows_of_logits_are_in_memory_once(decoder: CpuDecoder) -> None:
    rows = [decoder.prefill(slot, 0, TEXT[:9], logits_to_keep=5) for slot in range(SLOTS)]
    assert all(np.shares_memory(rows[0], other) for other in rows)


def test_logits_of_prompts_beside_others_are_in_memory_once(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "tiny", "fp32")
    without_logits_to_keep(folder)
    decoder = opened(folder, threads=2)
    reads = []
    for slot in range(SLOTS):
        reads.append(decoder.begin_prefill(slot, 0, TEXT[:9]))
        reads[-1].result()
    assert all(np.shares_memory(reads[0].logits, other.logits) for other in reads)


@settings(max_examples=40)
@given(data=st.data())
def test_a_prompt_in_chunks_is_the_whole_one(decoder: CpuDecoder, data: st.DataObject) -> None:
    lengths, other = data.draw(cuts(decoder.tile)), data.draw(cuts(decoder.tile))
    end = min(sum(lengths), sum(other))
    first, second = read(decoder, 0, TEXT, lengths), read(decoder, 1, TEXT, other)
    if 1 not in (lengths[0], other[0]):  # a prompt of one token is another computation
        np.testing.assert_array_equal(first[:end], second[:end])


@settings(max_examples=25)
@given(lengths=st.lists(st.integers(1, 100), min_size=2, max_size=SLOTS))
def test_a_decode_row_is_the_same_alone_and_in_a_batch(
    decoder: CpuDecoder, lengths: list[int]
) -> None:
    prompts = [TEXT[start : start + length] for start, length in enumerate(lengths)]
    together = continued(decoder, prompts, steps=6)
    for prompt, rows in zip(prompts, together, strict=True):
        [alone] = continued(decoder, [prompt], steps=6)
        np.testing.assert_array_equal(rows, alone)


@pytest.fixture(scope="module", params=[2, 3, 5])
def parallel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> CpuDecoder:
    """With so many threads, of which one or two read prompts."""
    folder = tiny_folder(tmp_path_factory.mktemp("parallel") / "tiny", "int8")
    return opened(folder, threads=request.param)


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=SLOTS - 1),
    past=st.integers(2, 60),
    piece=st.integers(1, 60),
)
def test_a_prompt_and_the_calls_beside_it_are_what_they_are_one_after_the_other(
    parallel: CpuDecoder, lengths: list[int], past: int, piece: int
) -> None:
    """So are the keys and values that they leave."""
    assume(piece % parallel.tile != 1)
    prompts = [TEXT[start : start + length] for start, length in enumerate(lengths)]
    above, read = len(prompts), TEXT[past : past + piece]
    results = []
    for beside in (False, True):
        parallel.prefill(above, 0, TEXT[:past])
        if beside:
            reading = parallel.begin_prefill(above, past, read)
            rows = continued(parallel, prompts, steps=3)
            row, seconds = reading.result()
            assert reading.done
            assert seconds > 0
        else:
            rows = continued(parallel, prompts, steps=3)
            row = copied(parallel.prefill(above, past, read))
        pasts = [*(length + 3 for length in lengths), past + piece]
        after = copied(parallel.decode([7] * len(pasts), pasts))
        results.append([*(logits for each in rows for logits in each), *row, *after])
    np.testing.assert_array_equal(results[0], results[1])


def test_a_prompt_is_read_beside_others_whatever_logits_the_graph_gives(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "tiny", "fp32")
    without_logits_to_keep(folder)
    decoder = opened(folder, threads=2)
    expected = copied(decoder.prefill(0, 0, TEXT[:20]))
    row, _ = decoder.begin_prefill(1, 0, TEXT[:20]).result()
    np.testing.assert_array_equal(row, expected)


class Held(GraphCalls):
    """Holds its prompts until they may go on."""

    def __init__(self, calls: GraphCalls) -> None:
        vars(self).update(vars(calls))
        self.may_go_on = threading.Event()

    def prefill(self, *arguments: Any) -> float:
        assert self.may_go_on.wait(timeout=10)
        return super().prefill(*arguments)


def test_calls_beside_a_prompt_leave_it_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    new_graph = HostGraph.__init__

    def noted(self: HostGraph, file: Path, threads: int, *rest: Any) -> None:
        new_graph(self, file, threads, *rest)
        run = self.run
        self.run = lambda *call: (used.append(threads), run(*call))  # type: ignore[assignment, func-returns-value]

    monkeypatch.setattr(HostGraph, "__init__", noted)
    decoder = opened(tiny_folder(tmp_path / "tiny", "int8"), threads=5)
    reader = decoder._side_reader
    assert reader is not None
    own, others = reader._opening.result()
    held = Held(own)
    reader._opening = Future()
    reader._opening.set_result((held, others))
    used.clear()
    decoder.decode([1], [5])
    reading = decoder.begin_prefill(1, 0, TEXT[:9])
    decoder.decode([1], [6])
    decoder.prefill(0, 7, TEXT[:3])
    held.may_go_on.set()
    reading.result()
    decoder.decode([1], [10])
    assert used == [5, 3, 3, 2, 5]


_LEAVES = """
import sys
import threading
from pathlib import Path

from server.model.cpu.graph_calls import GraphCalls
from tests.model.cpu.test_decoder import TEXT, opened


def prefill(*arguments):
    threading.main_thread().join()
    print("read")
    return 0.0


decoder = opened(Path(sys.argv[1]), threads=2)
GraphCalls.prefill = prefill
decoder.begin_prefill(1, 0, TEXT)
"""
"""A program that comes to its end while a prompt is read."""


def test_no_process_ends_during_a_call_beside_others(tmp_path: Path) -> None:
    """One in six that did, did with a segmentation fault."""
    folder = tiny_folder(tmp_path / "tiny", "int8")
    command = [sys.executable, "-c", _LEAVES, str(folder)]
    assert subprocess.check_output(command, timeout=60) == b"read\n"


def test_time_that_is_waited_for_a_prompt_is_time_inside_the_runtime(tmp_path: Path) -> None:
    decoder = opened(tiny_folder(tmp_path / "tiny", "int8"), threads=2)
    before = decoder.runtime_seconds
    reading = decoder.begin_prefill(1, 0, TEXT)
    assert decoder.runtime_seconds == before
    reading.result()
    assert decoder.runtime_seconds > before


def test_where_no_session_can_be_opened_for_prompts_beside_others_none_is_read_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    new_graph = HostGraph.__init__

    def fails(self: HostGraph, file: Path, threads: int, *rest: Any) -> None:
        if threads == 1:
            raise StartError("no memory for it")
        new_graph(self, file, threads, *rest)

    monkeypatch.setattr(HostGraph, "__init__", fails)
    decoder = opened(tiny_folder(tmp_path / "tiny", "int8"), threads=2)
    decoder.warm_up()
    assert not decoder.reads_beside
    [record] = caplog.records
    assert record.getMessage() == "prompts are not read beside decode rows: no memory for it"
    np.testing.assert_array_equal(decoder.prefill(0, 0, TEXT), decoder.prefill(1, 0, TEXT))


def test_where_a_first_call_beside_others_fails_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decoder = opened(tiny_folder(tmp_path / "tiny", "int8"), threads=2)

    def fails(*_: Any) -> float:
        raise RuntimeError("no such kernel\nat line 1")

    monkeypatch.setattr(GraphCalls, "prefill", fails)
    decoder.warm_up()
    assert not decoder.reads_beside
    [record] = caplog.records
    assert record.getMessage().endswith("model.onnx: a first call failed: no such kernel")


def test_an_interruption_ends_the_warm_up(tmp_path: Path) -> None:
    decoder = opened(tiny_folder(tmp_path / "tiny", "int8"), threads=2)
    decoder.interrupt()
    with pytest.raises(Interrupted):
        decoder.warm_up()


def test_without_a_second_core_no_prompt_is_read_beside_others(decoder: CpuDecoder) -> None:
    assert not decoder.reads_beside


def test_decode_rows_may_begin_at_any_slot(decoder: CpuDecoder) -> None:
    prompts = [TEXT[:30], TEXT[1:60]]
    expected = continued(decoder, prompts, steps=1)
    for slot, prompt in enumerate(prompts, start=2):
        decoder.prefill(slot, 0, prompt)
    newest = [int(rows[0].argmax()) for rows in expected]
    logits = decoder.decode(newest, [30, 59], first_slot=2)
    for row, rows in zip(logits, expected, strict=True):
        np.testing.assert_array_equal(row, rows[1])


def test_what_a_rejected_draft_wrote_changes_nothing_that_comes_after(
    decoder: CpuDecoder,
) -> None:
    [expected] = continued(decoder, [TEXT[:40]], steps=2)
    newest = [int(row.argmax()) for row in expected]
    decoder.prefill(0, 0, TEXT[:40])
    decoder.prefill(0, 40, np.array([5, 6, 7, 8, 9, 10]), logits_to_keep=6)
    for step in range(2):
        logits = decoder.decode([newest[step]], [40 + step])
        np.testing.assert_array_equal(logits[0], expected[step + 1])


def test_a_sequence_goes_on_in_another_slot(decoder: CpuDecoder) -> None:
    [expected] = continued(decoder, [TEXT[:40]], steps=1)
    decoder.prefill(3, 0, TEXT[:40])
    decoder.release(0)
    decoder.move(3, 0, 40)
    logits = decoder.decode([int(expected[0].argmax())], [40])
    np.testing.assert_array_equal(logits[0], expected[1])


@settings(max_examples=25)
@given(data=st.data())
def test_a_prompt_that_begins_with_another_ones_tokens_is_the_whole_one(
    decoder: CpuDecoder, data: st.DataObject
) -> None:
    """Whether these come from a slot or from a copy, and wherever they end."""
    prompt = TEXT[: data.draw(st.integers(4, CONTEXT))]
    whole = read(decoder, 0, prompt, [cut(len(prompt), CONTEXT, decoder.tile)])
    length = data.draw(st.integers(2, len(whole) - 2))
    rest = prompt[length : length + cut(len(whole) - length, CONTEXT, decoder.tile)]
    for slot, kept in ((1, None), (2, decoder.save(0, length))):
        decoder.release(slot)
        if kept is None:
            decoder.copy(0, slot, length)
        else:
            kept.load(slot, length)
        logits = decoder.prefill(slot, length, rest, logits_to_keep=0)
        np.testing.assert_array_equal(logits, whole[length : length + len(rest)])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not empty pages")
def test_after_a_rest_a_slot_that_was_released_is_as_one_that_was_never_used(
    tmp_path: Path,
) -> None:
    """Attention to what it holds, which no sequence pays any, tells the one from the other."""
    folder = tiny_folder(tmp_path / "tiny", "fp32")
    used, fresh = opened(folder), opened(folder)
    past = CONTEXT - 1
    expected = copied(fresh.decode([1], [past], first_slot=3))
    used.prefill(1, 0, TEXT[:past])
    assert not np.array_equal(used.decode([1], [past], first_slot=1), expected)
    used.release(1)
    used.rest()
    np.testing.assert_array_equal(used.decode([1], [past], first_slot=1), expected)


def test_a_slot_is_released_with_all_that_was_written_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[tuple[int, int]] = []
    decoder = opened(tiny_folder(tmp_path / "tiny", "fp32"), threads=2)
    monkeypatch.setattr(decoder._memory, "release", lambda *slot: released.append(slot))
    decoder.prefill(0, 0, TEXT[:9])
    decoder.copy(0, 1, 5)
    decoder.begin_prefill(2, 0, TEXT[:20]).result()
    decoder.move(2, 3, 20)
    decoder.decode([1], [9])
    for slot in (0, 1, 3):
        decoder.release(slot)
    assert released == [(2, 20), (0, 10), (1, 5), (3, 20)]


def test_logits_of_the_last_few_tokens_in_any_order_of_calls(decoder: CpuDecoder) -> None:
    every = read(decoder, 1, TEXT[:30], [30])
    assert every.shape == (30, decoder.vocabulary_size)
    for keep in (1, 0, 3, 1, 30, 0, 1):
        logits = decoder.prefill(1, 0, TEXT[:30], logits_to_keep=keep)
        np.testing.assert_array_equal(logits, every[-keep:])


def test_a_slot_can_be_filled_to_its_last_token(decoder: CpuDecoder) -> None:
    decoder.prefill(0, 0, TEXT[: CONTEXT - 1])
    logits = decoder.decode([int(TEXT[-1])], [CONTEXT - 1])
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    "change", [without_logits_to_keep, with_required_logits_to_keep, with_position_ids]
)
def test_a_graph_is_driven_by_what_it_declares(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = tiny_folder(tmp_path / "tiny", "fp32")
    prompts = [TEXT[:33], TEXT[5:9], TEXT[:1]]
    expected = continued(opened(folder), prompts, steps=5)
    change(folder)
    other = opened(folder)
    np.testing.assert_array_equal(continued(other, prompts, steps=5), expected)
    chunks = read(other, 0, TEXT, [32, 30, 66])
    np.testing.assert_array_equal(chunks, read(other, 1, TEXT, [128]))
    np.testing.assert_array_equal(other.prefill(1, 0, TEXT, logits_to_keep=3), chunks[-3:])


def test_the_memory_that_full_slots_take(decoder: CpuDecoder) -> None:
    layers, heads, head_dim, float32 = 2, 2, 16, 4
    assert decoder.kv_bytes == 2 * layers * SLOTS * heads * CONTEXT * head_dim * float32


def test_the_decoder_is_what_the_engine_needs(decoder: CpuDecoder) -> None:
    needed: Decoder = decoder
    assert (needed.slots, needed.context) == (SLOTS, CONTEXT)
    assert needed.tile >= 4


def test_an_interruption_ends_every_later_call(tmp_path: Path) -> None:
    decoder = opened(tiny_folder(tmp_path / "tiny", "fp32"))
    decoder.prefill(0, 0, TEXT)
    decoder.interrupt()
    for _ in range(2):
        with pytest.raises(Interrupted):
            decoder.prefill(0, 0, TEXT)
        with pytest.raises(Interrupted):
            decoder.decode([int(TEXT[0])], [5])


@pytest.mark.parametrize("beside", [False, True])
def test_an_interruption_ends_the_call_under_way(tmp_path: Path, beside: bool) -> None:
    """Wherever it is: the thread reads without end."""
    decoder = opened(tiny_folder(tmp_path / "tiny", "int8"), threads=2)
    begun, ended = threading.Event(), threading.Event()

    def read_on() -> None:
        try:
            while True:
                if beside:
                    decoder.begin_prefill(0, 0, TEXT).result()
                else:
                    decoder.prefill(0, 0, TEXT)
                begun.set()
        except Interrupted:
            ended.set()

    thread = threading.Thread(target=read_on, daemon=True)
    thread.start()
    assert begun.wait(timeout=10)
    decoder.interrupt()
    thread.join(timeout=10)
    assert ended.is_set()
