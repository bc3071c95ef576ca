"""Times engines in turns, and compares their rates.

Knows runners and workloads; does not know engines.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from model_tools.bench.engine.workload import Runner, Timing, Workload, time
from model_tools.bench.turns import in_turn


@dataclass(frozen=True, slots=True)
class Measurement:
    """The timed runs of one workload on one runner."""

    workload: Workload
    runner: str
    setting: str
    timings: tuple[Timing, ...]

    @property
    def rates(self) -> list[float]:
        """Tokens per second of each repetition."""
        return [self.workload.tokens / timing.seconds for timing in self.timings]

    def ratios(self, other: "Measurement") -> list[float]:
        """This rate over the other's, repetition by repetition, so that other work on the machine,
        which hits both, cancels out."""
        return [ours / theirs for ours, theirs in zip(self.rates, other.rates, strict=True)]


def measure(
    runners: Sequence[Runner],
    workloads: Sequence[Workload],
    *,
    vocabulary_size: int,
    repetitions: int,
    done: Callable[[], object],
) -> Iterator[list[Measurement]]:
    """Runs each workload once to warm up and then timed. The runners take turns, and which one
    begins alternates. Calls `done` after each run."""
    for number, workload in enumerate(workloads):
        timings: list[list[Timing]] = [[] for _ in runners]
        for repetition in range(repetitions + 1):
            seed = number * (repetitions + 1) + repetition
            prompts = workload.prompts(vocabulary_size, seed)
            for runner, kept in in_turn(repetition, list(zip(runners, timings, strict=True))):
                timing = time(runner, workload, prompts)
                if repetition > 0:
                    kept.append(timing)
                done()
        yield [
            Measurement(workload, runner.name, runner.setting, tuple(kept))
            for runner, kept in zip(runners, timings, strict=True)
        ]
