"""The function that stands in for PagedAttention does what the operator is described to do."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.gpu.paged_attention import (
    INPUTS,
    Heads,
    Integers,
    Packed,
    paged_attention,
    stand_in,
)

HEADS = Heads(4, 2, 16)
PAGE_TOKENS, PAGES = 4, 24
NAMES = {
    0: "qkv",
    3: "keys",
    4: "values",
    5: "ends",
    6: "pasts",
    7: "table",
    8: "cosines",
    9: "sines",
}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    """A graph that is one node."""
    file = tmp_path_factory.mktemp("paged") / "node.onnx"
    half = HEADS.size // 2
    cache: list[int | str] = ["pages", PAGE_TOKENS, HEADS.keys, HEADS.size]
    shapes: list[list[int | str]] = [
        ["tokens", 8 * HEADS.size],
        cache,
        cache,
        ["ends"],
        ["rows"],
        ["rows", "pages"],
    ]
    shapes += [["longest", half], ["longest", half]]
    float_type, integer = ir.DataType.FLOAT, ir.DataType.INT32
    inputs = {
        place: ir.val(name, integer if place in (5, 6, 7) else float_type, shape)
        for (place, name), shape in zip(NAMES.items(), shapes, strict=True)
    }
    outputs = [
        ir.val("output", float_type, ["tokens", HEADS.queries * HEADS.size]),
        ir.val("new_keys", float_type, cache),
        ir.val("new_values", float_type, cache),
    ]
    node = ir.node(
        "PagedAttention",
        [inputs.get(place) for place in range(INPUTS)],
        {"num_heads": HEADS.queries, "kv_num_heads": HEADS.keys, "do_rotary": 1},
        domain="com.microsoft",
        outputs=outputs,
    )
    graph = ir.Graph(
        list(inputs.values()), outputs, nodes=[node], opset_imports={"": 18, "com.microsoft": 1}
    )
    ir.save(ir.Model(graph, ir_version=10), file)
    stand_in(file, PAGE_TOKENS)
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


@settings(max_examples=40)
@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 7)), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_the_stand_in_is_the_operator(
    session: onnxruntime.InferenceSession, rows: list[tuple[int, int]], seed: int
) -> None:
    """Over rows with any past and any number of new tokens, none included, in any pages."""
    random = np.random.default_rng(seed)
    pasts, counts = np.array(rows, np.int32).T
    tokens = int(counts.sum())
    call = Packed(
        random.normal(size=(max(tokens, 1), 8 * HEADS.size)).astype(np.float32)[:tokens],
        np.concatenate([[0], counts.cumsum()]).astype(np.int32),
        pasts,
        tables(random, len(rows)),
    )
    if not tokens:
        return
    angles = random.uniform(0, 6, (32, HEADS.size // 2))
    cosines, sines = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    cache = (PAGES, PAGE_TOKENS, HEADS.keys, HEADS.size)
    keys, values = (random.normal(size=cache).astype(np.float32) for _ in range(2))
    arrays = [call.qkv, keys, values, call.ends, call.pasts, call.table, cosines, sines]
    feeds = {name: array.copy() for name, array in zip(NAMES.values(), arrays, strict=True)}
    given_output, new_keys, new_values = session.run(None, feeds)
    output = paged_attention(HEADS, call, keys, values, cosines, sines)
    np.testing.assert_allclose(given_output, output, atol=2e-5)
    np.testing.assert_allclose(new_keys, keys, atol=1e-6)
    np.testing.assert_array_equal(new_values, values)


def tables(random: np.random.Generator, rows: int) -> Integers:
    """Four pages for each row, none of them another row's."""
    return random.permutation(PAGES)[: 4 * rows].reshape(rows, 4).astype(np.int32)
