"""What --gap-stretch chooses between, measured: the gaps of running streams while a long prompt is
read, and the time to its first token.

    .venv/bin/python scripts/frontier.py MODEL_FOLDER --stretch 1.5,2,3

In process, as the engine runs it: no network, greedy, prompts of random tokens.
"""

import itertools
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from server.config import PrefixCacheConfig, PrefixReuse, SamplingParameters
from server.cores import usable_cores
from server.engine.core import EngineCore
from server.engine.events import News, Text
from server.engine.pacer import Pacer
from server.engine.sampling import Sampler
from server.engine.sequence import Sequence
from server.engine.windowed_text import WindowedText
from server.model.cpu.decoder import CpuDecoder
from server.model.folder import ModelFolder
from server.model.opening import open_cpu_decoder
from server.options.engine import ENGINE
from server.options.flag import Flag, Group, Told
from server.options.values import integer, listed
from server.program import Parser, program

UNDISTURBED = 100
"""Tokens of each stream beside the others before the prompt comes."""
SHORT = 64
"""Tokens of the streams' own prompts."""
CONTEXT = 8192


class Run:
    """Streams that go on without end, and when each of their tokens came."""

    def __init__(self, decoder: CpuDecoder, stretch: float) -> None:
        self._decoder = decoder
        self._core = EngineCore(
            decoder, self._deliver, Pacer(stretch), PrefixCacheConfig(PrefixReuse.OFF)
        )
        self._keys = itertools.count()
        self._random = np.random.default_rng(0)
        self.times: dict[int, list[float]] = {}

    def submit(self, prompt_tokens: int, max_tokens: int) -> int:
        key = next(self._keys)
        prompt = self._random.integers(0, self._decoder.vocabulary_size, prompt_tokens)
        sampler = Sampler(SamplingParameters(), prompt)
        text = WindowedText(lambda tokens: "." * len(tokens))
        self._core.submit(Sequence(key, prompt, max_tokens, frozenset(), sampler, text))
        self.times[key] = []
        return key

    def until(self, key: int, tokens: int) -> None:
        while len(self.times[key]) < tokens:
            self._core.step(lambda: None)

    def end(self) -> None:
        for key in self.times:
            self._core.cancel(key)
        while self._core.busy:
            self._core.step(lambda: None)

    def first_token(self, prompt_tokens: int) -> float:
        start = time.perf_counter()
        key = self.submit(prompt_tokens, max_tokens=1)
        self.until(key, 1)
        return self.times[key][0] - start

    def _deliver(self, events: list[tuple[int, News]]) -> None:
        now = time.perf_counter()
        for key, event in events:
            if isinstance(event, Text):
                self.times[key].append(now)


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds of one repetition."""

    gaps: list[float]
    """Of undisturbed streams."""
    disturbed: list[float]
    """While the prompt was read."""
    alone: float
    """The prompt's first token without streams."""
    beside: float


def measure(decoder: CpuDecoder, stretch: float, streams: int, prompt: int) -> Figures:
    run = Run(decoder, stretch)
    run.first_token(SHORT)
    alone = run.first_token(prompt)
    keys = [run.submit(SHORT, max_tokens=CONTEXT) for _ in range(streams)]
    run.until(keys[-1], 1)
    all_run = time.perf_counter()
    run.until(keys[-1], UNDISTURBED)
    begun = time.perf_counter()
    beside = run.first_token(prompt)
    run.end()
    pairs = [pair for key in keys for pair in itertools.pairwise(run.times[key])]
    gaps = [later - earlier for earlier, later in pairs if all_run < earlier and later < begun]
    disturbed = [later - earlier for earlier, later in pairs if later > begun]
    return Figures(gaps, disturbed, alone, beside)


def row(stretch: float, runs: list[Figures]) -> str:
    """A line of the table. Gaps of all repetitions are pooled, first tokens are medians."""
    gaps = [gap for run in runs for gap in run.gaps]
    disturbed = [gap for run in runs for gap in run.disturbed]
    gap, between = 1e3 * statistics.median(gaps), 1e3 * statistics.median(disturbed)
    p99 = 1e3 * float(np.quantile(disturbed, 0.99, method="weibull"))
    alone = 1e3 * statistics.median(run.alone for run in runs)
    ratio = statistics.median(run.beside / run.alone for run in runs)
    return (
        f"| {stretch:g} | {gap:.1f} | {between:.1f} | {p99:.1f} | {p99 / gap:.2f}"
        f" | {alone:.0f} | {ratio * alone:.0f} | {ratio:.2f} |"
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    stretches: tuple[float, ...]
    streams: int
    prompt: int
    """Tokens."""
    repetitions: int


PLAN = Group(
    "measurement",
    "What is measured.",
    Plan,
    {
        "stretches": Flag(
            "stretch",
            "X[,X...]",
            listed(ENGINE.flags["gap_stretch"].parse),
            "values of --gap-stretch",
            "1.5,2,2.5,3,4,6",
        ),
        "streams": Flag("streams", "N", integer(1, 1023), "that run beside the prompt", "4"),
        "prompt": Flag("prompt", "TOKENS", integer(1, CONTEXT - 1), "its length", "2000"),
        "repetitions": Flag("repetitions", "N", integer(1, 1000), "of each value", "3"),
    },
)


def main() -> None:
    with program("frontier.py"):
        parser = Parser(description=(__doc__ or "").partition("\n\n")[0], allow_abbrev=False)
        parser.add_argument("folder", metavar="MODEL_FOLDER", type=Path)
        PLAN.add_to(parser)
        options = parser.parse_args()
        measure_all(options.folder, PLAN.read(Told(options, os.environ)))


def measure_all(folder: Path, plan: Plan) -> None:
    """Prints the table. Raises `StartError`."""
    decoder = open_cpu_decoder(
        ModelFolder.read(folder),
        slots=plan.streams + 1,
        context=CONTEXT,
        threads=usable_cores(),
    )
    print(
        "| stretch | gap, ms | beside the prompt | p99 | ratio | first token, ms | beside | ratio |"
    )
    print("|---:" * 8 + "|")
    for stretch in plan.stretches:
        runs = [
            measure(decoder, stretch, plan.streams, plan.prompt) for _ in range(plan.repetitions)
        ]
        print(row(stretch, runs), flush=True)


if __name__ == "__main__":
    main()
