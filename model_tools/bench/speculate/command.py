"""`skiff-bench speculate`: speed with and without drafts, for editing prompts and free ones.

Knows its flags and its tables.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tqdm import tqdm

from model_tools.bench.flags import (
    add_folder,
    add_repetitions,
    add_threads,
    count,
    folder_of,
    up_to,
)
from model_tools.bench.machine import machine, model
from model_tools.bench.report.report import Cell, Report, Table
from model_tools.bench.report.series import Better, Of, Series
from model_tools.bench.report.spread import Middle
from model_tools.bench.speculate.prompts import COMMITTED, Kind, Prompt, read_prompts
from model_tools.bench.speculate.runner import Answer, AnswerRunner
from model_tools.bench.turns import in_turn
from server.config import SamplingParameters
from server.options.engine import MAX_DRAFT

CONTEXT = 4096
COLUMNS = ("prompt", "tokens", "plain t/s", "drafting t/s", "ratio", "drafted", "accepted")


def add_to(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    parser.add_argument(
        "--speculate",
        metavar="N",
        type=up_to(MAX_DRAFT),
        default=16,
        help="longest draft in tokens, as in skiff --speculate (default: 16)",
    )
    parser.add_argument(
        "-n",
        "--new",
        metavar="N",
        type=count,
        default=128,
        help="most tokens of an answer after its first one (default: 128)",
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        type=Path,
        default=COMMITTED,
        help="JSON with other prompts than the built-in 20 editing and 20 free ones",
    )
    add_repetitions(parser)
    add_threads(parser)


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt, answered without drafts and with them, one right after the other."""

    plain: Answer
    drafting: Answer

    @property
    def has_rates(self) -> bool:
        """Not if an answer ends with its first token."""
        return bool(self.plain.tokens and self.drafting.tokens)

    @property
    def ratio(self) -> float:
        return self.drafting.rate / self.plain.rate


@dataclass(frozen=True, slots=True)
class Measured:
    prompt: Prompt
    pairs: tuple[Pair, ...]
    """One for each repetition in which both answers have rates."""

    @property
    def ratio(self) -> float:
        return median(pair.ratio for pair in self.pairs)

    @property
    def row(self) -> tuple[Cell, ...]:
        answers = [pair.drafting for pair in self.pairs]
        return (
            self.prompt.name,
            round(median(answer.tokens for answer in answers)),
            median(pair.plain.rate for pair in self.pairs),
            median(answer.rate for answer in answers),
            Middle.of([pair.ratio for pair in self.pairs]),
            sum(answer.drafted for answer in answers),
            acceptance(answers),
        )


def run(options: argparse.Namespace) -> Report:
    """Raises `StartError`."""
    prompts = read_prompts(options.prompts)
    folder = folder_of(options)
    runner = AnswerRunner(
        folder,
        context=CONTEXT,
        threads=options.threads,
    )
    measured = _measure(runner, prompts, options)
    header = {**machine(), **model(folder), "threads": str(options.threads)}
    header["longest draft"] = f"{options.speculate} tokens"
    if silent := {prompt.name for prompt in prompts} - {each.prompt.name for each in measured}:
        header["left out"] = f"{', '.join(sorted(silent))}: an answer ends with its first token"
    kinds = {kind: [each for each in measured if each.prompt.kind is kind] for kind in Kind}
    tables = [_table(kind, each) for kind, each in kinds.items() if each]
    return Report("speculate", header, tuple(tables), tuple(_series(measured)))


def _measure(
    runner: AnswerRunner, prompts: Sequence[Prompt], options: argparse.Namespace
) -> list[Measured]:
    """Answers each prompt once to warm up and then timed; which way begins alternates. Leaves out
    prompts for which no pair has rates."""
    measured = []
    with tqdm(total=len(prompts) * (options.repetitions + 1), unit="pair", disable=None) as bar:
        for prompt in prompts:
            pairs = []
            for repetition in range(options.repetitions + 1):
                answers = {
                    longest: runner.answer(
                        prompt.text, options.new, sampling(prompt.kind, repetition), longest
                    )
                    for longest in in_turn(repetition, (0, options.speculate))
                }
                pairs.append(Pair(answers[0], answers[options.speculate]))
                bar.update()
            if timed := tuple(pair for pair in pairs[1:] if pair.has_rates):
                measured.append(Measured(prompt, timed))
    return measured


def sampling(kind: Kind, repetition: int) -> SamplingParameters:
    """Greedy for editing prompts, which have a right answer; temperature 1 for free ones."""
    if kind is Kind.EDITING:
        return SamplingParameters()
    return SamplingParameters(temperature=1, seed=repetition)


def acceptance(answers: Sequence[Answer]) -> float | None:
    """Accepted tokens as a share of drafted ones; None if none were drafted."""
    drafted = sum(answer.drafted for answer in answers)
    return sum(answer.accepted for answer in answers) / drafted if drafted else None


def _table(kind: Kind, measured: Sequence[Measured]) -> Table:
    answers = [pair.drafting for each in measured for pair in each.pairs]
    everything: tuple[Cell, ...] = (
        "median, or all",
        round(median(answer.tokens for answer in answers)),
        median(pair.plain.rate for each in measured for pair in each.pairs),
        median(answer.rate for answer in answers),
        Middle.of([each.ratio for each in measured]),
        sum(answer.drafted for answer in answers),
        acceptance(answers),
    )
    rows = (*(each.row for each in measured), everything)
    return Table(f"{kind.value} prompts, tokens after the first one", COLUMNS, rows)


def _series(measured: Sequence[Measured]) -> Iterator[Series]:
    for each in measured:
        for name in ("plain", "drafting"):
            rates = tuple(getattr(pair, name).rate for pair in each.pairs)
            yield Series(each.prompt.name, name, "t/s", Better.HIGHER, Of.ROUND, rates)
