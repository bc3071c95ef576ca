"""`skiff-bench network`: the same clients in process and over HTTP."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from model_tools.bench import cli
from model_tools.bench.network import in_process
from model_tools.bench.network.figures import FIGURES, Figures
from model_tools.bench.network.in_process import InProcess
from model_tools.bench.serve.prompts import Lengths, Mix, Request
from server.engine.core import Deliver, EngineCore
from server.engine.decoder import Decoder
from server.engine.events import EngineMessage, Finished
from server.engine.sequence import Sequence
from server.errors import StartError
from tests.model.tiny_folder import tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("bench") / "tiny", "int8")


def test_both_ways_have_all_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--concurrency", "1,3", "--requests", "4", "--words", "3", "--new-tokens", "60"]
    cli.main(["network", str(folder), *flags, "-r", "2", "-o", "json"])
    [rows] = json.loads(capsys.readouterr().out)["tables"].values()
    assert [(row["load"], row["figure"]) for row in rows] == [
        (load, figure.title) for load in ("1 client", "3 clients") for figure in FIGURES
    ]
    for row in rows:
        assert min(row["in process"], row["over HTTP"], row["over HTTP / in process"]) > 0
    shares = [row for row in rows if row["figure"].startswith("ONNX Runtime")]
    assert all(max(row["in process"], row["over HTTP"]) < 1 for row in shares)


class CountingCore(EngineCore):
    """Notes at each step how many requests have come and how many of them have ended."""

    def __init__(
        self, counts: list[tuple[int, int]], decoder: Decoder, deliver: Deliver, *others: Any
    ) -> None:
        super().__init__(decoder, self._count, *others)
        self._counts = counts
        self._hand_on = deliver
        self._came = self._ended = 0

    def submit(self, sequence: Sequence) -> None:
        self._came += 1
        super().submit(sequence)

    def step(self, listen: Callable[[], None]) -> None:
        self._counts.append((self._came, self._ended))
        super().step(listen)

    def _count(self, messages: list[tuple[int, EngineMessage]]) -> None:
        self._ended += sum(isinstance(event, Finished) for _, event in messages)
        self._hand_on(messages)


@pytest.mark.parametrize("clients", [1, 2, 5, 9])
def test_each_client_asks_as_soon_as_it_has_its_answer(
    folder: Path, clients: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many rounds as wanted, the requests as many or fewer than the clients."""
    counts: list[tuple[int, int]] = []
    monkeypatch.setattr(in_process, "EngineCore", partial(CountingCore, counts))
    engine = InProcess(folder, slots=clients, context=60, threads=1)
    mix = Mix(Lengths(1, 4), Lengths(2, 9), shared_words=0, leaving=0)
    for all_requests, seed in ((5, "a"), (10, "b")):
        counts.clear()
        engine.run(mix.requests(5, seed), clients)
        assert counts == [(min(clients + ended, all_requests), ended) for _, ended in counts]


def test_answers_of_one_token_have_no_gaps(folder: Path) -> None:
    engine = InProcess(folder, slots=1, context=60, threads=1)
    with pytest.raises(StartError, match="more --new-tokens"):
        engine.run([Request("a b", max_tokens=1, leaves_after=None)], 1)


def test_figures_are_milliseconds() -> None:
    gaps = [0.001 * number for number in range(101)]
    figures = Figures.of(
        tokens_per_second=5,
        first_tokens=[0.1, 0.2, 0.9],
        gaps=gaps,
        decode_step=0.003,
        runtime_share=0.9,
    )
    assert [figure.of(figures) for figure in FIGURES] == pytest.approx([5, 200, 50, 99, 3, 0.9])


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--concurrency", "0"], "--concurrency: must be an integer from 1"),
        (["--concurrency", "1,2000"], "--concurrency: must be an integer from 1 to 1024"),
        (["--concurrency", "2,1,2"], "--concurrency: must name each value once"),
        (["--words", "300"], "--words: .* tokens are too many"),
        (["--words", "10", "--new-tokens", "90"], "more than the context together"),
    ],
)
def test_what_cannot_be_measured_is_one_line(folder: Path, flags: list[str], reason: str) -> None:
    with pytest.raises(SystemExit, match=reason):
        cli.main(["network", str(folder), *flags])
