"""A recipe from what was asked for, and from defaults for what was not."""

import pytest

from model_tools.graph.matrices import IntegerFormat
from model_tools.recipe import FloatType, KvType, Recipe, Target, WeightType
from server.errors import StartError

CPU, CUDA = Target.CPU, Target.CUDA
FP32, FP16, BF16 = FloatType
INT8, INT4 = WeightType.INT8, WeightType.INT4


@pytest.mark.parametrize(
    ("target", "weights", "activations", "expected"),
    [
        (CPU, None, None, (INT8, FP32)),
        (CPU, INT4, None, (INT4, FP32)),
        (CPU, WeightType.FP32, FP32, (WeightType.FP32, FP32)),
        (CUDA, None, None, (WeightType.FP16, FP16)),
        (CUDA, None, BF16, (WeightType.BF16, BF16)),
        (CUDA, WeightType.BF16, None, (WeightType.BF16, BF16)),
        (CUDA, INT4, None, (INT4, FP16)),
        (CUDA, INT8, BF16, (INT8, BF16)),
    ],
)
def test_the_target_decides_what_was_not_said(
    target: Target,
    weights: WeightType | None,
    activations: FloatType | None,
    expected: tuple[WeightType, FloatType],
) -> None:
    recipe = Recipe.of(target, weights, activations, None)
    assert (recipe.weights, recipe.activations) == expected
    assert recipe.target is target


@pytest.mark.parametrize(
    ("target", "weights", "activations", "block", "words"),
    [
        (CPU, None, FP16, None, "cpu computes in fp32, not fp16, which is for --target cuda"),
        (CPU, WeightType.BF16, None, None, "cpu computes in fp32, not bf16, which is for"),
        (CPU, WeightType.FP16, FP32, None, "--weights fp16 and --activations fp32 do not fit"),
        (CPU, WeightType.FP32, None, 32, "--block-size has no meaning for weights in fp32"),
        (CUDA, WeightType.FP32, None, None, "cuda computes in fp16 or bf16, not fp32, which is"),
        (CUDA, WeightType.FP16, BF16, None, "--weights fp16 and --activations bf16 do not fit"),
        (CUDA, INT4, None, 64, "--target cuda has kernels for --block-size 32 only"),
    ],
)
def test_what_does_not_fit_names_the_flags(
    target: Target,
    weights: WeightType | None,
    activations: FloatType | None,
    block: int | None,
    words: str,
) -> None:
    with pytest.raises(StartError, match=words):
        Recipe.of(target, weights, activations, block)


@pytest.mark.parametrize("target", [CPU, CUDA])
@pytest.mark.parametrize(
    ("weights", "kv", "bits"),
    [
        (None, KvType.INT8, 8),
        (INT8, KvType.FLOAT, 8),
        (INT4, KvType.INT8, 4),
    ],
)
def test_the_narrowest_numbers_are_weights_or_keys_and_values(
    target: Target, weights: WeightType | None, kv: KvType, bits: int
) -> None:
    assert Recipe.of(target, weights, None, None, kv).bits == bits


@pytest.mark.parametrize("block_size", [32, 64, 128])
def test_the_vocabulary_is_always_in_small_blocks(block_size: int) -> None:
    recipe = Recipe.of(CPU, INT8, None, block_size)
    layers, vocabulary = recipe.layers(), recipe.vocabulary()
    assert isinstance(layers, IntegerFormat)
    assert isinstance(vocabulary, IntegerFormat)
    assert layers.block_format.block_size == block_size
    assert vocabulary.block_format.block_size == 32
