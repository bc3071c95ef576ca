"""Quantising: error bounds, and the layout against ONNX Runtime's own quantiser."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_internals

from model_tools.decoder_spec import Weights
from model_tools.weights import quantise as module
from model_tools.weights import slabs as slabs_module
from model_tools.weights.quantise import BlockFormat, dequantise, quantise

FORMATS = [BlockFormat(bits, size) for bits in (4, 8) for size in (32, 64, 128)]
BY_FORMAT = pytest.mark.parametrize("block_format", FORMATS, ids=str)


def matrix(outputs: int, inputs: int, seed: int = 0) -> Weights:
    return np.random.default_rng(seed).standard_normal((outputs, inputs)).astype(np.float32)


def restored(weights: Weights, block_format: BlockFormat) -> Weights:
    return dequantise(quantise(weights, block_format), block_format, weights.shape[1])


@BY_FORMAT
@given(inputs=st.integers(1, 300), seed=st.integers(0, 1000), magnitude=st.integers(-20, 20))
def test_a_weight_moves_by_half_a_step_at_most(
    block_format: BlockFormat, inputs: int, seed: int, magnitude: int
) -> None:
    weights = matrix(3, inputs, seed) * np.float32(2.0**magnitude)
    quantised = quantise(weights, block_format)
    scales = np.repeat(quantised.scales, block_format.block_size, axis=1)[:, :inputs]
    errors = np.abs(dequantise(quantised, block_format, inputs) - weights)
    # With 4 bits the side opposite to the largest magnitude ends at 7: a whole step there.
    clipped = (weights / scales > 7.5) & (block_format.bits == 4)
    assert np.all(errors <= np.abs(scales) * np.where(clipped, 1.0001, 0.5001))


@pytest.mark.parametrize("scale_type", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("bits", [4, 8])
def test_integers_are_chosen_for_scales_as_they_are_stored(bits: int, scale_type: type) -> None:
    """So that rounding a scale costs next to nothing."""
    weights, exact = matrix(64, 256), BlockFormat(bits, 32)
    narrow = BlockFormat(bits, 32, np.dtype(scale_type))
    assert quantise(weights, narrow).scales.dtype == scale_type
    error = np.abs(restored(weights, narrow) - weights).mean()
    assert error < 1.03 * np.abs(restored(weights, exact) - weights).mean()


@BY_FORMAT
def test_the_largest_of_a_block_is_kept(block_format: BlockFormat) -> None:
    weights = matrix(5, 128)
    blocks = weights.reshape(5, -1, block_format.block_size)
    largest = np.abs(blocks).argmax(axis=-1)[..., np.newaxis]
    found = restored(weights, block_format).reshape(blocks.shape)
    np.testing.assert_allclose(
        np.take_along_axis(found, largest, -1), np.take_along_axis(blocks, largest, -1), rtol=1e-6
    )


@BY_FORMAT
def test_quantising_again_changes_nothing(block_format: BlockFormat) -> None:
    once = restored(matrix(7, 200), block_format)
    np.testing.assert_allclose(restored(once, block_format), once, rtol=1e-6)


@BY_FORMAT
def test_zeros_stay_zeros(block_format: BlockFormat) -> None:
    np.testing.assert_array_equal(restored(np.zeros((2, 96), np.float32), block_format), 0)


@BY_FORMAT
def test_a_block_too_small_for_a_scale_becomes_zeros(block_format: BlockFormat) -> None:
    found = restored(np.full((2, 96), 1e-42, np.float32), block_format)
    np.testing.assert_allclose(found, 0, atol=1e-42)


@BY_FORMAT
def test_padding_stands_for_zeros(block_format: BlockFormat) -> None:
    quantised = quantise(matrix(4, 130), block_format)
    padded = quantised.scales.shape[1] * block_format.block_size
    assert padded > 130
    assert not dequantise(quantised, block_format, padded)[:, 130:].any()


def test_a_matrix_in_slabs_is_the_matrix_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = matrix(50, 96)
    whole = quantise(weights, FORMATS[0])
    monkeypatch.setattr(slabs_module, "ROWS_AT_ONCE", 7)
    slabs = quantise(weights, FORMATS[0])
    np.testing.assert_array_equal(slabs.integers, whole.integers)
    np.testing.assert_array_equal(slabs.scales, whole.scales)


@pytest.mark.parametrize("block_size", [32, 64, 128])
@pytest.mark.parametrize("inputs", [128, 96, 130])
def test_int4_is_what_onnxruntime_makes(block_size: int, inputs: int) -> None:
    block_format = BlockFormat(4, block_size)
    weights = matrix(40, inputs)
    blocks = block_format.blocks(inputs)
    integers = np.zeros((40, blocks, block_size // 2), np.uint8)
    scales = np.zeros((40, blocks), np.float32)
    onnxruntime_internals.quantize_matmul_4bits(
        integers,
        np.ascontiguousarray(weights.T),
        scales,
        np.zeros((40, (blocks + 1) // 2), np.uint8),
        block_size,
        40,
        inputs,
        True,
    )
    quantised = quantise(weights, block_format)
    np.testing.assert_array_equal(quantised.scales, scales)
    # Not the padding: theirs is whatever lay in the buffer.
    ours, theirs = (
        each.reshape(40, -1)[:, : inputs // 2] for each in (quantised.integers, integers)
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("block_size", [32, 64, 128])
@pytest.mark.parametrize("inputs", [128, 96, 130])
def test_int8_lies_where_onnxruntime_puts_it(block_size: int, inputs: int) -> None:
    """Its scales differ by design, so the values that its arrays stand for are compared."""
    block_format = BlockFormat(8, block_size)
    weights = matrix(40, inputs)
    blocks = block_format.blocks(inputs)
    integers = np.zeros((40, blocks, block_size), np.uint8)
    scales = np.zeros((40, blocks), np.float32)
    onnxruntime_internals.quantize_matmul_8bits(
        integers,
        np.ascontiguousarray(weights.T),
        scales,
        np.zeros((40, blocks), np.uint8),
        block_size,
        40,
        inputs,
        True,
    )
    quantised = quantise(weights, block_format)
    assert quantised.integers.shape == integers.shape
    assert quantised.scales.shape == scales.shape
    theirs = dequantise(module.QuantisedMatrix(integers, scales), block_format, inputs)
    np.testing.assert_allclose(theirs, restored(weights, block_format), atol=0.05)
