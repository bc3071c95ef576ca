"""Graphs on the CPU share what is packed of their weights, and that changes no bit."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from server.errors import StartError
from server.model.cpu.c_api import CApi
from server.model.cpu.decoder import CpuDecoder
from server.model.cpu.host_graph import CallOptions, HostGraph, SharedWeights
from server.model.folder import ModelFolder
from server.model.gpu.trial_graph import SIDE, TRIAL_GRAPH
from server.model.opening import open_cpu_decoder
from server.model.tensor_types import Logits
from tests.model.tiny_folder import CONTEXT, tiny_folder

PROMPT = np.random.default_rng(0).integers(0, 270, 20)


def trial(place: Path) -> HostGraph:
    """Multiplies `x` with itself."""
    (place / "trial.onnx").write_bytes(TRIAL_GRAPH)
    return HostGraph(place / "trial.onnx", threads=1)


def test_a_graph_says_what_it_takes_and_computes_in_the_arrays_that_are_bound(
    tmp_path: Path,
) -> None:
    graph = trial(tmp_path)
    [x], [y] = graph.get_inputs(), graph.get_outputs()
    assert (x.name, x.type, x.shape) == ("x", "tensor(float)", [SIDE, SIDE])
    assert (y.name, y.type, y.shape) == ("y", "tensor(float)", [SIDE, SIDE])
    assert graph.get_overridable_initializers() == []
    given = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    found = np.zeros_like(given)
    binding, options = graph.binding(), CallOptions()
    binding.input("x", given)
    binding.output("y", found)
    for _ in range(2):
        given[:] += 1
        graph.run(binding, options)
        np.testing.assert_allclose(found, given @ given, rtol=1e-5)


def test_a_call_that_fails_says_why(tmp_path: Path) -> None:
    graph = trial(tmp_path)
    binding, options = graph.binding(), CallOptions()
    with pytest.raises(RuntimeError, match="At least one output"):
        graph.run(binding, options)
    with pytest.raises(RuntimeError, match="z"):
        binding.input("z", np.zeros(1, np.float32))


def test_calls_that_are_to_end_end(tmp_path: Path) -> None:
    graph, options = trial(tmp_path), CallOptions()
    binding = graph.binding()
    binding.input("x", np.ones((SIDE, SIDE), np.float32))
    binding.output("y", np.ones((SIDE, SIDE), np.float32))
    options.terminate()
    assert options.terminated
    with pytest.raises(RuntimeError, match="terminate"):
        graph.run(binding, options)


def test_a_library_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no library").write_bytes(b"")
    with pytest.raises(OSError, match="no library"):
        CApi(tmp_path / "no library")


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return ModelFolder.read(tiny_folder(tmp_path / "tiny", "int8"))


def logits(decoder: CpuDecoder) -> list[Logits]:
    """Of a prompt and of a few tokens after it."""
    rows = [decoder.prefill(0, 0, PROMPT)[0].copy()]
    for past in range(len(PROMPT), len(PROMPT) + 5):
        rows.append(decoder.decode([int(rows[-1].argmax())], [past])[0].copy())
    return rows


def opened(folder: ModelFolder) -> CpuDecoder:
    return open_cpu_decoder(folder, slots=2, context=CONTEXT, threads=2)


@pytest.mark.parametrize("weights", ["fp32", "int8", "int4"])
def test_shared_weights_change_no_bit(tmp_path: Path, weights: str) -> None:
    folder = ModelFolder.read(tiny_folder(tmp_path / weights, weights))
    plain = CpuDecoder(folder, slots=2, context=CONTEXT, threads=2)
    np.testing.assert_array_equal(logits(opened(folder)), logits(plain))


def test_where_weights_cannot_be_shared_one_session_is_run_and_one_line_says_why(
    folder: ModelFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = logits(opened(folder))

    def fails(self: SharedWeights, file: Path) -> None:
        raise StartError("no weights\ncan be shared")

    monkeypatch.setattr(SharedWeights, "__init__", fails)
    with caplog.at_level(logging.WARNING):
        decoder = opened(folder)
    assert not decoder.reads_beside
    np.testing.assert_array_equal(logits(decoder), both)
    [record] = caplog.records
    assert "no weights" in record.getMessage()


def test_a_graph_that_cannot_be_run_is_not_blamed_on_sharing(
    folder: ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.model_file.write_bytes(b"no graph")
    with pytest.raises(StartError, match=r"model\.onnx"):
        opened(folder)
    assert caplog.records == []


SIZE = 4096
"""Rows and columns of a matrix of 64 MiB."""


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells what memory is of"
)
def test_what_is_packed_lies_in_memory_once_and_goes_with_the_last_graph(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((SIZE, SIZE), np.float32)
    (tmp_path / "model.onnx.data").write_bytes(data.data)
    text = f"""
    <ir_version: 10, opset_import: ["" : 21]>
    multiplies (float[1, {SIZE}] x, float[{SIZE}, {SIZE}] w) => (float[1, {SIZE}] y) {{
        y = MatMul(x, w)
    }}
    """
    for name in ("model", "other"):
        model = ir.from_onnx_text(text)
        weights = model.graph.inputs.pop()
        where = ("model.onnx.data", 0, data.nbytes, ir.DataType.FLOAT)
        weights.const_value = ir.ExternalTensor(*where, shape=ir.Shape(data.shape), name="w")
        model.graph.initializers.add(weights)
        ir.save(model, tmp_path / f"{name}.onnx")
    program = """
import sys
from pathlib import Path
from server.model.heap import give_back
from server.model.cpu.host_graph import HostGraph, SharedWeights

def anonymous():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) >> 10

def of_the_file():
    # Not of all files: what of a library's code is resident is the page cache's affair.
    resident, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):
            ours = line.endswith("model.onnx.data")
        elif ours and line.startswith("Rss:"):
            resident += int(line.split()[1])
    return resident >> 10

folder = Path(sys.argv[1])
before = anonymous()
weights = SharedWeights(folder / "model.onnx")
first = HostGraph(folder / "model.onnx", 1, weights)
one = of_the_file(), anonymous() - before
second = HostGraph(folder / "other.onnx", 1, weights)
both = of_the_file(), anonymous() - before
del weights, first
rest = anonymous() - before
del second
give_back()
none = anonymous() - before
print(one, both, rest, none)
assert 64 <= one[1] < 80 and one[0] < 8, "packed, and no copy beside it"
assert both[1] - one[1] < 8 and both[0] < 8, "once for both"
assert rest >= 64, "kept as long as one is there"
assert none < 16
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
