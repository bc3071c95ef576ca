"""Runs servers under loads, in turns. Knows trio and the parts; does not know flags or tables."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from model_tools.bench.serve.client import Exchange, exchange
from model_tools.bench.serve.dialect import Settings
from model_tools.bench.serve.load import Load, undisturbed
from model_tools.bench.serve.prometheus import Metrics, fetch
from model_tools.bench.serve.prompts import Mix, Request
from model_tools.bench.serve.reply import ANSWERED, Reply, read_reply
from model_tools.bench.serve.result import Result
from model_tools.bench.serve.target import Target
from model_tools.bench.turns import in_turn
from server.errors import StartError


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured."""

    targets: tuple[Target, ...]
    loads: tuple[Load, ...]
    mix: Mix
    settings: Settings
    requests: int
    """In a round, for each server."""
    rounds: int
    warm_up: int
    """Requests to each server before anything is counted, one after another."""
    timeout: float
    """For a whole answer, in seconds."""
    seed: int

    def seed_of(self, load: Load, number: int) -> str:
        """Seed of the requests of round `number`, and of their arrivals."""
        return f"{self.seed} {load.name} {number}"


@dataclass(frozen=True, slots=True)
class Findings:
    results: tuple[Result, ...]
    """In the order in which they were measured."""
    metrics: tuple[tuple[str, Metrics, Metrics], ...]
    """For each server its name, and its own metrics before and after."""


def nothing() -> None:
    """A callback that does nothing."""


async def measure(
    plan: Plan, done: Callable[[], object] = nothing, answered: Callable[[], object] = nothing
) -> Findings:
    """Runs each load for `plan.rounds` rounds. The servers take turns and get the same prompts,
    which are new in each round. Calls `done` after each turn and `answered` after each request.
    Raises `StartError`."""
    for target in plan.targets:
        await _warm_up(plan, target)
    before = [await fetch(target) for target in plan.targets]
    results = []
    for load in plan.loads:
        for number in range(plan.rounds):
            seed = plan.seed_of(load, number)
            requests = plan.mix.requests(plan.requests, seed)
            for target in in_turn(number, plan.targets):
                results.append(await _round(plan, target, load, requests, seed, answered))
                done()
    after = [await fetch(target) for target in plan.targets]
    names = [target.name for target in plan.targets]
    return Findings(tuple(results), tuple(zip(names, before, after, strict=True)))


async def _warm_up(plan: Plan, target: Target) -> None:
    for request in plan.mix.requests(plan.warm_up, f"{plan.seed} warm-up"):
        answer = await _ask(plan, target, request, time.perf_counter())
        reply = _reply(plan, target, request, answer)
        if reply.outcome not in ANSWERED:
            raise StartError(f"{target.name}: no answer to a first request: {reply.reason}")


async def _round(
    plan: Plan,
    target: Target,
    load: Load,
    requests: Sequence[Request],
    seed: str,
    answered: Callable[[], object],
) -> Result:
    """Runs a load on one server. Parses answers only after all have arrived."""
    seen: list[tuple[Request, Exchange]] = []

    async def send(request: Request, due: float) -> None:
        seen.append((request, await _ask(plan, target, request, due)))
        answered()

    with undisturbed():
        await load.run(requests, send, seed)
    replies = [_reply(plan, target, request, answer) for request, answer in seen]
    return Result(target.name, load, tuple(replies))


async def _ask(plan: Plan, target: Target, request: Request, due: float) -> Exchange:
    call, leaves_after = target.post(request, plan.settings), request.leaves_after
    return await exchange(target, call, due=due, timeout=plan.timeout, leaves_after=leaves_after)


def _reply(plan: Plan, target: Target, request: Request, answer: Exchange) -> Reply:
    fixed_length = request.max_tokens if plan.settings.ignore_eos else None
    return read_reply(answer, target.dialect, fixed_length)


def run(
    plan: Plan, done: Callable[[], object] = nothing, answered: Callable[[], object] = nothing
) -> Findings:
    """Runs `measure` in an event loop of its own."""
    return trio.run(measure, plan, done, answered)
