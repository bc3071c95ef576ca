"""Memory for keys and values costs what is written into it, and moves without touching others."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from server.model.cpu.kv_memory import KvBuffer, KvMemory
from server.model.kv_shape import KvShape

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

LAYERS, HEADS, HEAD_DIM = 30, 3, 64
"""Of the default model."""
MEGABYTE = 10**6


def shapes(layers: int, heads: int, head_dim: int) -> list[KvShape]:
    kinds = [f"{layer}.{kind}" for layer in range(layers) for kind in ("key", "value")]
    dtype: np.dtype[np.floating] = np.dtype(np.float32)
    return [KvShape(f"past.{kind}", f"present.{kind}", heads, head_dim, dtype) for kind in kinds]


def resident() -> int:
    """Bytes of this process in memory, counted page by page; `statm` lags behind."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Rss")


@on_linux
def test_16_slots_of_8192_with_ten_tokens_each_are_under_50_megabytes() -> None:
    before = resident()
    memory = KvMemory(shapes(LAYERS, HEADS, HEAD_DIM), slots=16, capacity=8192)
    for buffer in memory.buffers:
        buffer.array[:, :, :10] = 1
    assert memory.nbytes == 2 * LAYERS * 16 * HEADS * 8192 * HEAD_DIM * 4
    assert resident() - before < 50 * MEGABYTE


@on_linux
def test_a_slot_that_is_released_gives_its_pages_back() -> None:
    memory = KvMemory(shapes(LAYERS, HEADS, HEAD_DIM), slots=3, capacity=4096, idle_bytes=0)
    empty = resident()
    for buffer in memory.buffers:
        buffer.array[1, :, :1000] = 1
    one_slot = 2 * LAYERS * HEADS * 1000 * HEAD_DIM * 4
    assert resident() - empty > 0.9 * one_slot
    memory.copy(1, 2, length=1000)
    memory.release(1, length=1000)
    assert resident() - empty < 1.1 * one_slot
    memory.release(2, length=1000)
    assert resident() - empty < 0.1 * one_slot


@on_linux
def test_slots_keep_the_pages_of_short_sequences_within_a_bound() -> None:
    memory = KvMemory(shapes(LAYERS, HEADS, HEAD_DIM), slots=8, capacity=4096, idle_bytes=10**8)
    empty, token = resident(), memory.token_bytes

    def run(slot: int, length: int) -> int:
        for buffer in memory.buffers:
            buffer.array[slot, :, :length] = 1
        memory.release(slot, length)
        return resident() - empty

    assert 0.9 * 1000 * token < run(0, 1000) < 1.1 * 1000 * token
    assert run(0, 100) < 1.1 * 1000 * token
    for slot in range(1, 8):
        assert run(slot, 1000) < 1.1 * 10**8
    for slot in range(8):
        assert run(slot, 3000) < 1.1 * 10**8
    memory.rest()
    assert resident() - empty < 0.1 * 10**8
    assert run(2, 1000) > 0.9 * 1000 * token


@given(
    slots=st.integers(2, 4),
    heads=st.integers(1, 3),
    capacity=st.integers(1, 90),
    head_dim=st.sampled_from([8, 16, 64]),
    data=st.data(),
)
def test_a_copy_is_exact_and_leaves_other_slots_as_they_are(
    slots: int, heads: int, capacity: int, head_dim: int, data: st.DataObject
) -> None:
    """Also where slots end in the middle of a page."""
    memory = KvMemory(shapes(1, heads, head_dim), slots=slots, capacity=capacity)
    source, destination = data.draw(st.permutations(range(slots)))[:2]
    length = data.draw(st.integers(0, capacity))
    before = [filled(buffer, seed) for seed, buffer in enumerate(memory.buffers)]
    memory.copy(source, destination, length)
    for buffer, old in zip(memory.buffers, before, strict=True):
        np.testing.assert_array_equal(
            buffer.array[destination, :, :length], old[source, :, :length]
        )
        for slot in set(range(slots)) - {destination}:
            np.testing.assert_array_equal(buffer.array[slot], old[slot])


@given(
    slots=st.integers(1, 3),
    heads=st.integers(1, 3),
    capacity=st.integers(1, 90),
    head_dim=st.sampled_from([8, 16, 64]),
    data=st.data(),
)
def test_a_copy_of_a_slot_begins_any_slot(
    slots: int, heads: int, capacity: int, head_dim: int, data: st.DataObject
) -> None:
    memory = KvMemory(shapes(2, heads, head_dim), slots=slots, capacity=capacity)
    source, destination = data.draw(st.integers(0, slots - 1)), data.draw(st.integers(0, slots - 1))
    length = data.draw(st.integers(1, capacity))
    shorter = data.draw(st.integers(0, length))
    saved_from = [filled(buffer, seed) for seed, buffer in enumerate(memory.buffers)]
    saved = memory.save(source, length)
    before = [filled(buffer, seed + 9) for seed, buffer in enumerate(memory.buffers)]
    saved.load(destination, shorter)
    for buffer, old, new in zip(memory.buffers, before, saved_from, strict=True):
        old[destination, :, :shorter] = new[source, :, :shorter]
        np.testing.assert_array_equal(buffer.array, old)
    assert saved.nbytes == length * memory.token_bytes


@on_linux
def test_a_copy_takes_its_size_and_gives_it_back() -> None:
    memory = KvMemory(shapes(LAYERS, HEADS, HEAD_DIM), slots=1, capacity=1024)
    for buffer in memory.buffers:
        buffer.array[:] = 1
    before = resident()
    saved = memory.save(0, length=1000)
    assert saved.nbytes == 1000 * 2 * LAYERS * HEADS * HEAD_DIM * 4
    assert 0.9 * saved.nbytes < resident() - before < 1.1 * saved.nbytes
    del saved
    assert resident() - before < MEGABYTE


@pytest.mark.parametrize("capacity", [1, 100, 128, 1000])
def test_a_release_leaves_neighbours_as_they_are(capacity: int) -> None:
    buffer = KvBuffer(shapes(1, 1, 8)[0], slots=3, capacity=capacity)
    before = filled(buffer, seed=0)
    buffer.release(1)
    np.testing.assert_array_equal(buffer.array[[0, 2]], before[[0, 2]])
    buffer.array[1] = before[1]
    np.testing.assert_array_equal(buffer.array, before)


def test_slots_follow_each_other_without_a_gap() -> None:
    buffer = KvBuffer(shapes(1, 2, 8)[0], slots=3, capacity=5)
    assert buffer.array.flags.c_contiguous
    assert buffer.nbytes == 3 * 2 * 5 * 8 * 4


def filled(buffer: KvBuffer, seed: int) -> NDArray[np.floating]:
    """Random numbers everywhere; a copy of them."""
    random = np.random.default_rng(seed)
    buffer.array[:] = random.normal(size=buffer.array.shape)
    return buffer.array.copy()
