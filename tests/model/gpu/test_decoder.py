"""The decoder on a device: on a fake one, which sees what it asks of CUDA, and for real on the CPU
as a device, where its tokens are those of the CPU's own decoder."""

import gc
import shutil
import threading
from collections.abc import Callable
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_tools.export import write_model
from model_tools.gguf.source import GgufSource
from model_tools.recipe import Recipe, Target, WeightType
from server.config import CPU, SamplingParameters
from server.engine.decoder import SavedKv
from server.errors import DeviceLost, Interrupted, StartError
from server.model.candidates import Candidates
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder
from server.model.gpu.cuda_memory import CudaError
from server.model.gpu.decoder import DeviceDecoder
from server.model.gpu.layout import batches
from server.model.gpu.opening import open_device_decoder
from server.model.runtime import Misplaced
from tests.engine.clients import asks, engine_of, expected, in_trio, told
from tests.engine.fake_decoder import VOCABULARY, greedy_tokens, logits_after
from tests.model.generating import generated
from tests.model.gpu.fake_device import (
    CANDIDATES,
    FakeBinding,
    FakeDevice,
    FakeMemory,
    FakeOptions,
    FakeSession,
)
from tests.model.tiny_folder import CONTEXT, tiny_folder

SLOTS = 5
TEXT = np.random.default_rng(0).integers(0, VOCABULARY, 256)


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    slots=st.integers(1, 6),
    draft=st.sampled_from([0, 0, 3]),
    leaving=st.integers(0, 8),
    graphs=st.booleans(),
    tells=st.booleans(),
    always_ahead=st.booleans(),
)
def test_sequences_that_come_and_go_get_what_each_gets_alone(
    lengths: list[int],
    slots: int,
    draft: int,
    leaving: int,
    graphs: bool,
    tells: bool,
    always_ahead: bool,
) -> None:
    """Through moved slots, copied prefixes, rows left over, replayed graphs and calls made ahead:
    all of it at the addresses that were reserved."""
    device = FakeDevice(slots=slots, graphs=graphs, tells=tells, always_ahead=always_ahead)
    prompts = [TEXT[start % 3 * 7 :][:length] for start, length in enumerate(lengths)]
    tokens = generated(
        device.decoder, prompts, SamplingParameters(), 20, draft=draft, leaving=leaving
    )
    for key, (prompt, given_tokens) in enumerate(zip(prompts, tokens, strict=True)):
        expected = greedy_tokens(tuple(prompt.tolist()), 3 if key == leaving else 20)
        assert tuple(given_tokens) == expected
    assert all(shape in [(rows, 1) for rows in batches(slots)] for shape in decoded(device, draft))


def decoded(device: FakeDevice, draft: int) -> list[tuple[int, ...]]:
    """Shapes of calls that only decode, where no sequence between them verifies a draft."""
    return [] if draft else [shape for shape in device.session.calls if shape[0] > 1]


def test_a_graph_is_captured_for_each_number_of_rows_before_the_first_request() -> None:
    device = FakeDevice(slots=6)
    assert list(device.session.captured) == [6, 4, 2, 1]
    assert device.session.replays == 0
    generated(device.decoder, [TEXT[:9], TEXT[3:20], TEXT[1:4]], SamplingParameters(), 12)
    assert list(device.session.captured) == [6, 4, 2, 1]
    assert device.session.replays >= 12
    assert FakeDevice(graphs=False).session.captured == {}


def test_no_row_of_logits_crosses_to_the_host() -> None:
    """But for draws that the candidates leave open, for which a call is made again if another one
    was made meanwhile."""
    device = FakeDevice(slots=2)
    before, calls = device.memory.to_host, len(device.session.calls)
    device.decoder.prefill(0, 0, TEXT[:9])
    rows = device.decoder.decode([3], [9])
    told = CANDIDATES * (8 + 4) + 4
    assert device.memory.to_host - before == 2 * told
    expected = logits_after((*TEXT[:9].tolist(), 3))
    assert isinstance(rows[0], Candidates)
    np.testing.assert_array_equal(rows[0].logits, np.sort(expected)[::-1][:CANDIDATES])
    for _ in range(2):
        np.testing.assert_array_equal(rows[0].whole(), expected)
    assert device.memory.to_host - before == 3 * told + 2 * 4 * VOCABULARY
    assert len(device.session.calls) - calls == 4


def test_a_call_is_queued_before_it_is_asked_for() -> None:
    device = FakeDevice(slots=2)
    text = TEXT[:9].tolist()
    [row] = device.decoder.prefill(0, 0, TEXT[:9])
    assert isinstance(row, Candidates)
    token = int(row.ids[0])
    before = len(device.session.calls)
    for step in range(5):
        text.append(token)
        [row] = device.decoder.decode([token], [9 + step])
        assert isinstance(row, Candidates)
        np.testing.assert_array_equal(row.logits[0], logits_after(tuple(text)).max())
        token = int(row.ids[0])
    assert len(device.session.calls) - before == 5
    device.memory.settle()
    assert len(device.session.calls) - before == 6


def test_a_row_of_an_earlier_call_is_an_error_where_it_is_gone() -> None:
    device = FakeDevice(slots=2)
    device.decoder.prefill(0, 0, TEXT[:9])
    [row] = device.decoder.decode([3], [9])
    device.decoder.prefill(1, 0, TEXT[:4])
    assert isinstance(row, Candidates)
    with pytest.raises(RuntimeError, match="another call was made since"):
        row.whole()


class Failing(FakeSession):
    """A call fails when `left` have been made."""

    left = -1

    def run_with_iobinding(self, binding: FakeBinding, options: FakeOptions) -> None:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("CUDA error 700")
        super().run_with_iobinding(binding, options)


@pytest.fixture
def failing() -> tuple[DeviceDecoder, Failing, FakeMemory]:
    memory = FakeMemory()
    session = Failing(memory)
    decoder = DeviceDecoder(
        session, memory, FakeOptions, name="fake", slots=2, context=64, cuda_graphs=True
    )
    decoder.warm_up()
    decoder.prefill(0, 0, TEXT[:9])
    return decoder, session, memory


def test_a_call_ahead_that_fails_costs_nobody_a_token(
    failing: tuple[DeviceDecoder, Failing, FakeMemory], caplog: pytest.LogCaptureFixture
) -> None:
    decoder, session, _ = failing
    session.left = 2
    for tokens in ((3,), (3, 5)):
        [row] = decoder.decode([tokens[-1]], [8 + len(tokens)])
        assert isinstance(row, Candidates)
        np.testing.assert_array_equal(row.whole(), logits_after((*TEXT[:9].tolist(), *tokens)))
    assert caplog.messages == ["no call could be made ahead: CUDA error 700"]


def test_a_device_that_says_nothing_else_any_more_is_lost(
    failing: tuple[DeviceDecoder, Failing, FakeMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that fails by itself is one request's."""
    decoder, session, memory = failing
    session.left = 1
    with pytest.raises(RuntimeError, match=r"^CUDA error 700$"):
        decoder.decode([3], [9])
    session.left = 1
    monkeypatch.setattr(memory, "settle", Mock(side_effect=CudaError("CUDA error 700")))
    with pytest.raises(DeviceLost, match=f"^{memory.device}: CUDA error 700$"):
        decoder.decode([3], [9])


LATER: dict[str, Callable[[DeviceDecoder, SavedKv, int], object]] = {
    "prompt": lambda decoder, _, __: decoder.prefill(1, 0, TEXT[:4]),
    "decode": lambda decoder, _, best: decoder.decode([(best + 1) % VOCABULARY], [10]),
    "decode as foreseen": lambda decoder, _, best: decoder.decode([best], [10]),
    "copy": lambda decoder, _, __: decoder.copy(0, 1, 4),
    "move": lambda decoder, _, __: decoder.move(0, 1, 4),
    "save": lambda decoder, _, __: decoder.save(0, 4),
    "load": lambda _, saved, __: saved.load(1, 4),
}


@pytest.mark.parametrize("later", LATER)
def test_a_device_that_was_lost_while_nothing_ran_is_noticed_whatever_comes_next(
    failing: tuple[DeviceDecoder, Failing, FakeMemory],
    later: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first to fail is then a copy, not a call. As one request's own failure, it would let the
    server live on, and answer each request with an error."""
    decoder, _, memory = failing
    saved = decoder.save(0, 4)
    [row] = decoder.decode([3], [9])
    assert isinstance(row, Candidates)
    best = int(row.ids[0])
    for name in ("write", "copy", "reserve", "settle"):
        monkeypatch.setattr(memory, name, Mock(side_effect=CudaError("CUDA error 700")))
    with pytest.raises(DeviceLost, match=f"^{memory.device}: CUDA error 700$"):
        LATER[later](decoder, saved, best)


def test_runs_between_drafts_take_no_more_memory_for_ever() -> None:
    """With many slots there are more of them than there is memory for their buffers."""
    device = FakeDevice(slots=12)
    free = []
    for _ in range(2):
        for first in range(1, 12):
            for count in range(1, 13 - first):
                device.decoder.decode([1] * count, [0] * count, first, again=False)
        gc.collect()
        free.append(device.memory.free_bytes)
    assert free[0] == free[1]
    assert len(device.decoder._options) == len(FakeDevice(slots=12).decoder._options)


def test_none_is_queued_that_would_lie_outside_of_the_context() -> None:
    device = FakeDevice(slots=1, context=16)
    device.decoder.prefill(0, 0, TEXT[:15])
    before = len(device.session.calls)
    device.decoder.decode([3], [15])
    device.memory.settle()
    assert len(device.session.calls) - before == 1


def test_none_is_queued_where_few_were_the_ones_that_were_asked_for() -> None:
    device = FakeDevice(slots=1)
    device.decoder.prefill(0, 0, TEXT[:9])
    token = 3
    for step in range(12):
        device.memory.settle()
        before = len(device.session.calls)
        [row] = device.decoder.decode([token], [9 + step])
        assert isinstance(row, Candidates)
        token = int(row.ids[1])
    device.memory.settle()
    assert len(device.session.calls) - before == 1


def test_a_row_left_over_changes_nothing_of_its_slot() -> None:
    """Whatever the slot holds: nothing, a prompt that is partly read, or all but the one token for
    which the engine always has room."""
    device = FakeDevice(slots=4, context=32)
    alone = FakeDevice(slots=4, context=32)
    lengths = [5, 0, 9, 31]
    for slot, length in enumerate(lengths):
        if length:
            device.decoder.prefill(slot, 0, TEXT[:length])
            alone.decoder.prefill(slot, 0, TEXT[:length])
    for step in range(3):
        device.decoder.decode([1, 2, 3], [5 + step, step, 9 + step])  # slot 3 is left over
    last = device.decoder.prefill(3, 31, TEXT[31:32])
    expected = alone.decoder.prefill(3, 31, TEXT[31:32])
    np.testing.assert_array_equal(last[0].whole(), expected[0].whole())


def give_by_copy(decoder: DeviceDecoder) -> None:
    decoder.copy(0, 3, 10)


def give_by_move(decoder: DeviceDecoder) -> None:
    decoder.prefill(4, 0, TEXT[:10])
    decoder.move(4, 3, 10)


def give_saved(decoder: DeviceDecoder) -> None:
    decoder.save(0, 15).load(3, 10)


@pytest.mark.parametrize("give", [give_by_copy, give_by_move, give_saved])
def test_a_row_left_over_changes_nothing_that_its_slot_was_given(
    give: Callable[[DeviceDecoder], None],
) -> None:
    decoder = FakeDevice().decoder
    decoder.prefill(0, 0, TEXT[:20])
    give(decoder)
    decoder.decode([1, 2, 3], [20, 0, 0])
    [row] = decoder.prefill(3, 10, TEXT[10:14])
    assert isinstance(row, Candidates)
    np.testing.assert_array_equal(row.whole(), logits_after(tuple(TEXT[:14].tolist())))


def test_saved_tokens_go_back_to_the_device_with_what_holds_them() -> None:
    device = FakeDevice()
    device.decoder.prefill(0, 0, TEXT[:20])
    device.decoder.save(0, 10)
    baseline = device.memory.free_bytes
    saved = device.decoder.save(0, 10)
    assert baseline - device.memory.free_bytes == 10 * device.decoder.token_bytes
    del saved
    assert device.memory.free_bytes == baseline


def test_without_room_for_keys_and_values_it_is_a_memory_error() -> None:
    memory = FakeMemory(capacity=10_000)
    with pytest.raises(MemoryError):
        DeviceDecoder(
            FakeSession(memory),
            memory,
            FakeOptions,
            name="fake",
            slots=64,
            context=64,
            cuda_graphs=True,
        )


def test_an_interruption_ends_every_later_call() -> None:
    device = FakeDevice()
    device.decoder.interrupt()
    with pytest.raises(Interrupted):
        device.decoder.prefill(0, 0, TEXT[:4])
    with pytest.raises(Interrupted):
        device.decoder.decode([1], [4])


class Broken(FakeSession):
    def run_with_iobinding(self, binding: object, options: object) -> None:
        raise RuntimeError("CUDA error 700\nand a trace")


def test_a_first_call_that_fails_is_one_line() -> None:
    memory = FakeMemory()
    decoder = DeviceDecoder(
        Broken(memory),
        memory,
        FakeOptions,
        name="fake.onnx",
        slots=2,
        context=16,
        cuda_graphs=True,
    )
    with pytest.raises(StartError, match=r"^fake.onnx: a first call failed: CUDA error 700$"):
        decoder.warm_up()


@pytest.mark.parametrize(
    ("slots", "expected"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8])]
)
def test_numbers_of_rows(slots: int, expected: list[int]) -> None:
    assert batches(slots) == expected


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFolder, ModelFolder]:
    """One fp32 model, for the CPU and as for CUDA."""
    place = tmp_path_factory.mktemp("device")
    cpu = tiny_folder(place / "tiny", "fp32")
    shutil.copytree(cpu, place / "cuda", ignore=shutil.ignore_patterns("model.onnx*"))
    source = GgufSource.open(place / "tiny/tiny.gguf")
    write_model(place / "cuda", source, Recipe(WeightType.FP32, 32, Target.CUDA))
    return ModelFolder.read(cpu), ModelFolder.read(place / "cuda")


@pytest.fixture(scope="module")
def decoders(folders: tuple[ModelFolder, ModelFolder]) -> tuple[CpuDecoder, DeviceDecoder]:
    """The CPU's own, and the CPU as a device."""
    device = open_device_decoder(
        folders[1], CPU, slots=SLOTS, context=CONTEXT, threads=1, cuda_graphs=True
    )
    device.warm_up()
    return CpuDecoder(folders[0], slots=SLOTS, context=CONTEXT, threads=1), device


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=8),
    parameters=st.sampled_from(
        [
            SamplingParameters(),
            SamplingParameters(repetition_penalty=1.2),
            SamplingParameters(temperature=0.8, top_k=40, top_p=0.9, seed=3),
            SamplingParameters(temperature=1, seed=4),
            SamplingParameters(temperature=1, min_p=0.2, repetition_penalty=1.1, seed=5),
        ]
    ),
    draft=st.sampled_from([0, 3]),
)
def test_on_onnx_runtime_the_tokens_are_those_of_the_cpus_own_decoder(
    decoders: tuple[CpuDecoder, DeviceDecoder],
    lengths: list[int],
    parameters: SamplingParameters,
    draft: int,
) -> None:
    prompts = [TEXT[start % 2 * 9 :][:length] for start, length in enumerate(lengths)]
    own, device = (generated(decoder, prompts, parameters, 12, draft=draft) for decoder in decoders)
    assert own == device


def test_a_graph_that_does_not_belong_on_a_device_is_told_apart(
    folders: tuple[ModelFolder, ModelFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def misplaced(*_: object, **__: object) -> None:
        raise Misplaced("no kernel")

    monkeypatch.setattr("server.model.gpu.opening.open_session", misplaced)
    with pytest.raises(Misplaced, match=r"^no kernel$"):
        open_device_decoder(folders[1], CPU, slots=1, context=8, threads=1, cuda_graphs=True)


def test_a_graph_that_tells_no_candidates_runs_on_a_device_too(
    folders: tuple[ModelFolder, ModelFolder],
) -> None:
    """As other exporters' do."""
    own = CpuDecoder(folders[0], slots=2, context=CONTEXT, threads=1)
    device = open_device_decoder(
        folders[0], CPU, slots=2, context=CONTEXT, threads=1, cuda_graphs=False
    )
    device.warm_up()
    for decoder in (own, device):
        decoder.prefill(0, 0, TEXT[:30])
    expected = own.decode([5], [30])
    np.testing.assert_array_equal(device.decode([5], [30]), expected)


def test_all_rows_of_a_prompt_are_there_when_they_are_asked_for(
    decoders: tuple[CpuDecoder, DeviceDecoder],
) -> None:
    own, device = decoders
    for keep in (1, 0, 3, 40, 1):
        expected = own.prefill(0, 0, TEXT[:40], logits_to_keep=keep).copy()
        rows = device.prefill(0, 0, TEXT[:40], logits_to_keep=keep)
        whole = [row.whole() for row in rows if isinstance(row, Candidates)]
        np.testing.assert_array_equal(np.stack(whole), expected)


def test_the_fake_device_knows_the_thread_of_a_graph() -> None:
    """So that a test of the engine over it would see a graph captured in the wrong one."""
    device = FakeDevice()
    failures: list[BaseException] = []

    def decode() -> None:
        try:
            device.decoder.decode([1], [0])
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=decode)
    thread.start()
    thread.join()
    assert [type(failure).__name__ for failure in failures] == ["Misused"]


@in_trio
async def test_the_engine_captures_and_replays_in_one_thread() -> None:
    memory = FakeMemory()
    session = FakeSession(memory)
    decoder = DeviceDecoder(
        session, memory, FakeOptions, name="fake", slots=2, context=64, cuda_graphs=True
    )
    engine = engine_of(decoder, ignore_eos=True)
    async with engine.running():
        assert list(session.captured) == [2, 1]
        events = await told(engine, asks("ab", max_tokens=9))
    assert events == expected("ab", 9, eos=frozenset())
    assert session.replays == 8, "none was made ahead of the end"
