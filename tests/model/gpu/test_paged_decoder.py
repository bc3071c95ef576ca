"""The decoder over pages, on a fake device that sees each page that it asks for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.config import PrefixReuse, SamplingParameters
from server.errors import StartError
from server.model.candidates import Candidates
from server.model.gpu.layout import batches
from tests.engine.fake_decoder import VOCABULARY, greedy_tokens, logits_after
from tests.model.generating import core_of, generated, sequence_of
from tests.model.gpu.fake_paged_device import PagedDevice

TEXT = np.random.default_rng(0).integers(0, VOCABULARY, 256)


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    slots=st.integers(1, 6),
    draft=st.sampled_from([0, 0, 3]),
    leaving=st.integers(0, 8),
    graphs=st.booleans(),
    tells=st.booleans(),
    pages=st.sampled_from([16, 17, 23, 40, None]),
    always_ahead=st.booleans(),
)
def test_sequences_that_come_and_go_get_what_each_gets_alone(
    lengths: list[int],
    slots: int,
    draft: int,
    leaving: int,
    graphs: bool,
    tells: bool,
    pages: int | None,
    always_ahead: bool,
) -> None:
    """Through pages that are shared, parted and taken by others, replayed graphs and calls made
    ahead; and where there are too few for all, by waiting. 16 are for one context."""
    device = PagedDevice(
        slots=slots,
        context=64,
        graphs=graphs,
        tells=tells,
        pages=pages,
        always_ahead=always_ahead,
    )
    assert device.kv.free_pages == (pages or 16 * slots)
    prompts = [TEXT[start % 3 * 7 :][:length] for start, length in enumerate(lengths)]
    tokens = generated(
        device.decoder, prompts, SamplingParameters(), 20, draft=draft, leaving=leaving
    )
    for key, (prompt, given_tokens) in enumerate(zip(prompts, tokens, strict=True)):
        expected = greedy_tokens(tuple(prompt.tolist()), 3 if key == leaving else 20)
        assert tuple(given_tokens) == expected
    for slot in range(slots):
        device.decoder.release(slot)
    assert device.kv.free_pages == (pages or 16 * slots)


def test_what_sequences_have_in_common_they_share() -> None:
    """Ten pages and a half: the ten are there once, and of the half each has its own."""
    device = PagedDevice(context=64)
    pages = device.kv.free_pages
    device.decoder.prefill(0, 0, TEXT[:42])
    assert pages - device.kv.free_pages == 11
    for slot in (1, 2, 3):
        device.decoder.copy(0, slot, 42)
    assert pages - device.kv.free_pages == 11 + 3
    saved = device.decoder.save(0, 42)
    for slot in range(4):
        device.decoder.release(slot)
    assert pages - device.kv.free_pages == 11
    saved.load(4, 40)
    assert pages - device.kv.free_pages == 11
    del saved
    assert pages - device.kv.free_pages == 10


@pytest.mark.parametrize(("common", "side_by_side"), [(18, 4), (0, 2)])
def test_sequences_that_begin_alike_run_side_by_side_in_pages_for_half_of_them(
    common: int, side_by_side: int
) -> None:
    """Six pages each, of which they have four in common; or nothing."""
    device = PagedDevice(slots=4, context=24, pages=12)
    core = core_of(device.decoder)
    prompts = [TEXT[:18]] * 4 if common else [TEXT[18 * n :][:18] for n in range(4)]
    sequences = [sequence_of(key, prompt, 6) for key, prompt in enumerate(prompts)]
    core.submit(sequences[0])
    core.step(lambda: None)
    for sequence in sequences[1:]:
        core.submit(sequence)
    for _ in range(3):
        core.step(lambda: None)
    assert sum(bool(sequence.generated) for sequence in sequences) == side_by_side
    while core.busy:
        core.step(lambda: None)
    for sequence, prompt in zip(sequences, prompts, strict=True):
        assert tuple(sequence.generated) == greedy_tokens(tuple(prompt.tolist()), 6)


def test_pages_of_a_sequence_that_ended_are_there_for_the_next_at_once() -> None:
    """It left a copy of its six pages; the next one needs them in the step after."""
    device = PagedDevice(slots=2, context=24, pages=6)
    core = core_of(device.decoder)
    first, next_one = sequence_of(0, TEXT[:20], 4), sequence_of(1, TEXT[100:104], 20)
    core.submit(first)
    core.step(lambda: None)
    core.submit(next_one)
    while not first.ended:
        core.step(lambda: None)
        assert not next_one.read
    core.step(lambda: None)
    assert next_one.read == 4


def test_a_copy_stays_where_its_pages_are_in_use_anyway() -> None:
    """Of ten pages one runs on four that the copy holds, too, and needs two more: to forget the
    copy would give one page, and six are wanted."""
    device = PagedDevice(slots=3, context=24, pages=10)
    core = core_of(device.decoder, PrefixReuse.PROMPTS)
    beginning = TEXT[:16]
    for key, (end, new_tokens) in enumerate([((1, 2), 2), ((3, 4), 6)]):
        core.submit(sequence_of(key, np.append(beginning, end), new_tokens))
        core.step(lambda: None)
        core.step(lambda: None)
    waiting = sequence_of(2, TEXT[100:116], 8)
    core.submit(waiting)
    core.step(lambda: None)
    assert not waiting.read
    core.cancel(waiting.key)
    other = sequence_of(3, np.append(beginning, [1, 2, 3, 4]), 1)
    core.submit(other)
    core.step(lambda: None)
    assert other.reused == 18


def test_a_copy_goes_where_that_lets_a_conversation_go_on_beside_one_that_begins_alike() -> None:
    """Of 16 pages the conversation's copy holds 8, of which another sequence runs on 4, and an
    older copy 5. To go on takes 11, of which 8 are there."""
    device = PagedDevice(slots=3, context=64, pages=16)
    core = core_of(device.decoder, PrefixReuse.PROMPTS)
    beginning, conversation = TEXT[:16], TEXT[:32]
    for key, prompt in enumerate([TEXT[100:120], conversation]):
        core.submit(sequence_of(key, prompt, 1))
        core.step(lambda: None)
    core.submit(sequence_of(2, np.append(beginning, [1, 2]), 6))
    core.step(lambda: None)
    going_on = sequence_of(3, np.append(conversation, [3, 4, 5]), 9)
    core.submit(going_on)
    core.step(lambda: None)
    assert (going_on.reused, going_on.read) == (32, 35)


def test_a_graph_is_captured_for_each_number_of_rows_and_of_pages() -> None:
    """And replayed over any slots, since these are numbers in a table."""
    device = PagedDevice(slots=3, context=12)
    assert len(device.session.captured) == len(batches(3)) * len(batches(3)) == 9
    assert device.session.replays == 0
    device.decoder.prefill(2, 0, TEXT[:9])
    [row] = device.decoder.decode([7], [9], first_slot=2)
    assert device.session.replays == 2, "and the next one was made ahead"
    assert isinstance(row, Candidates)
    np.testing.assert_array_equal(row.whole(), logits_after((*TEXT[:9].tolist(), 7)))
    assert len(device.session.captured) == 9
    assert PagedDevice(graphs=False).session.captured == {}


def test_a_page_too_many_is_a_memory_error() -> None:
    device = PagedDevice(slots=2, context=12, pages=4)
    device.decoder.prefill(0, 0, TEXT[:12])
    device.decoder.prefill(1, 0, TEXT[:4])
    with pytest.raises(MemoryError, match="all 4 pages of keys and values are taken"):
        device.decoder.decode([1], [4], first_slot=1)


@pytest.mark.parametrize(
    ("slots", "pages", "reason"),
    [
        (257, None, "has keys and values in pages: --slots 257 is more than 256"),
        (2, 2, "--kv-mib 0.00.* is too little: a context of 12 tokens alone takes 1"),
    ],
)
def test_what_pages_cannot_hold_is_told_at_the_start(
    slots: int, pages: int | None, reason: str
) -> None:
    with pytest.raises(StartError, match=reason):
        PagedDevice(slots=slots, context=12, pages=pages)
