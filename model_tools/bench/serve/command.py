"""`skiff-bench serve`: measures one server over HTTP, or two in turns. Knows its flags."""

import argparse
import secrets
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from model_tools.bench.flags import (
    add_concurrency,
    add_lengths,
    count,
    each_once,
    not_negative,
    positive,
    share,
    whole,
)
from model_tools.bench.machine import machine
from model_tools.bench.report.report import Report, Table
from model_tools.bench.serve.dialect import DIALECTS, Settings
from model_tools.bench.serve.load import ClosedLoop, Load, OpenLoop
from model_tools.bench.serve.prometheus import about
from model_tools.bench.serve.prompts import Lengths, Mix
from model_tools.bench.serve.result import Result, failure
from model_tools.bench.serve.series import all_series
from model_tools.bench.serve.session import Findings, Plan
from model_tools.bench.serve.session import run as run_session
from model_tools.bench.serve.tables import (
    latency_table,
    metrics_table,
    ratios_table,
    requests_table,
)
from model_tools.bench.serve.target import Target
from server.errors import StartError
from server.http.api_keys import read_keys

PAIRS = 5
DIALECT = "paddler"
_SEEDS = 1_000_000


def add_to(parser: argparse.ArgumentParser) -> None:
    _add_servers(parser)
    _add_load(parser)
    _add_requests(parser)


def _add_servers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("servers").add_argument
    dialects = list(DIALECTS)
    add("url", metavar="URL", help="the server: http://HOST:PORT or https://HOST:PORT")
    add(
        "--dialect",
        choices=dialects,
        default=DIALECT,
        help="its API: Skiff's and Paddler's raw prompts, OpenAI's completions or chat, "
        f"or llama-server's /completion (default: {DIALECT})",
    )
    add("--name", metavar="NAME", help="its name in tables (default: HOST:PORT)")
    add(
        "--api-key-file",
        metavar="FILE",
        type=Path,
        help="send the first key in it, as Authorization: Bearer KEY (default: none)",
    )
    add("--vs", metavar="URL", help="a second server: the two take turns, and are compared")
    add("--vs-dialect", choices=dialects, help=f"its API (default: {DIALECT})")
    add("--vs-name", metavar="NAME", help="its name in tables (default: HOST:PORT)")
    add("--vs-api-key-file", metavar="FILE", type=Path, help="its API key (default: none)")


def _add_load(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("load")
    either = group.add_mutually_exclusive_group()
    add_concurrency(either, default=[1])
    either.add_argument(
        "--rate",
        metavar="X[,X...]",
        type=each_once(positive),
        help="requests per second, at random times, however many are unanswered",
    )
    add = group.add_argument
    add(
        "--requests",
        metavar="N",
        type=count,
        default=24,
        help="requests in each round (default: 24)",
    )
    add(
        "--pairs",
        "--rounds",
        dest="rounds",
        metavar="N",
        type=count,
        help=f"rounds of each load on each server; `compare` needs {PAIRS} "
        f"(default: {PAIRS} with --vs, else 1)",
    )
    add(
        "--warm-up",
        metavar="N",
        type=whole,
        default=2,
        help="requests to each server before anything is counted (default: 2)",
    )
    add(
        "--timeout",
        metavar="SECONDS",
        type=positive,
        default=120.0,
        help="limit for one answer, connection included (default: 120)",
    )
    add(
        "--leave",
        metavar="SHARE",
        type=share,
        default=0.0,
        help="share of clients that close their connection in mid-answer, 0 to 1 (default: 0)",
    )


def _add_requests(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("requests")
    add_lengths(group, words=Lengths(128, 128), new_tokens=Lengths(96, 96))
    add = group.add_argument
    add(
        "--shared",
        metavar="WORDS",
        type=whole,
        default=0,
        help="words with which all prompts begin alike (default: 0)",
    )
    add(
        "--seed",
        metavar="N",
        type=whole,
        default=secrets.randbelow(_SEEDS),
        help="seed of prompts and arrivals (default: another in each run, since a server may still "
        "hold the prompts of the last one)",
    )
    add(
        "--ignore-eos",
        action="store_true",
        help="ask for answers that go on to --new-tokens; the paddler dialect cannot, so start the "
        "server accordingly (skiff --ignore-eos)",
    )
    add(
        "--temperature",
        metavar="X",
        type=not_negative,
        default=0.0,
        help="sampling temperature (default: 0; the paddler dialect cannot ask for one)",
    )
    add(
        "--model",
        metavar="NAME",
        help="the model to ask for, in OpenAI's dialects (default: default)",
    )
    add(
        "--cache-prompt",
        action="store_true",
        help="let llama-server reuse prompts from its KV cache (default: no)",
    )


def run(options: argparse.Namespace) -> Report:
    """Raises `StartError`."""
    plan = _plan(options)
    _check(options, plan)
    requests = len(plan.loads) * plan.rounds * len(plan.targets) * plan.requests
    with tqdm(total=requests, unit="request", disable=None) as bar:
        findings = run_session(plan, answered=bar.update)
    groups = _groups(plan, findings)
    series = tuple(all_series([rounds for group in groups for rounds in group]))
    header = {**machine(), **_servers(plan, findings), **_asked(plan)}
    tables = _tables(groups, findings)
    return Report("serve", header, tables, series, failure(findings.results))


def _plan(options: argparse.Namespace) -> Plan:
    """Raises `StartError`."""
    key = _key(options.api_key_file)
    targets = [Target.of(options.url, DIALECTS[options.dialect], options.name, key)]
    if options.vs:
        dialect, key = DIALECTS[options.vs_dialect or DIALECT], _key(options.vs_api_key_file)
        targets.append(Target.of(options.vs, dialect, options.vs_name, key))
        if targets[0].name == targets[1].name:
            raise StartError(f"--vs-name: both servers would be called {targets[0].name}")
    loads: list[Load] = [ClosedLoop(clients) for clients in options.concurrency]
    if options.rate:
        loads = [OpenLoop(rate) for rate in options.rate]
    return Plan(
        targets=tuple(targets),
        loads=tuple(loads),
        mix=Mix(options.words, options.new_tokens, options.shared, options.leave),
        settings=Settings(
            options.model or "default",
            options.temperature,
            options.ignore_eos,
            options.cache_prompt,
        ),
        requests=options.requests,
        rounds=options.rounds or (PAIRS if options.vs else 1),
        warm_up=options.warm_up,
        timeout=options.timeout,
        seed=options.seed,
    )


def _key(file: Path | None) -> str | None:
    """Raises `StartError`."""
    return read_keys(file)[0] if file else None


def _check(options: argparse.Namespace, plan: Plan) -> None:
    """Raises `StartError` for a flag that would have no effect."""
    for name in ("vs_dialect", "vs_name", "vs_api_key_file"):
        if getattr(options, name) and not options.vs:
            raise StartError(f"{_flag(name)}: there is no second server without --vs")
    for name in ("model", "temperature", "cache_prompt"):
        if getattr(options, name) and not _is_asked_for(name, plan):
            able = [key for key, dialect in DIALECTS.items() if name in dialect.asks_for]
            raise StartError(f"{_flag(name)}: only --dialect {' or '.join(able)} can ask for it")
    mix = plan.mix
    if mix.shared_words > mix.words.low:
        raise StartError(f"--shared: prompts of {mix.words} words cannot share {mix.shared_words}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _is_asked_for(setting: str, plan: Plan) -> bool:
    return any(setting in target.dialect.asks_for for target in plan.targets)


def _asked(plan: Plan) -> dict[str, str]:
    """The requests, described for the header."""
    mix = plan.mix
    shared = f"{mix.shared_words} words shared" if mix.shared_words else "unique"
    ends = "end of text ignored" if plan.settings.ignore_eos else "up to the end of text"
    asked_for = _is_asked_for("temperature", plan)
    temperature = f"{plan.settings.temperature:g}" if asked_for else "as the server has it"
    asked = {
        "prompts": f"{mix.words} words, {shared}",
        "answers": f"{mix.new_tokens} tokens, {ends}, temperature {temperature}",
        "requests": f"{plan.requests} in each of {plan.rounds} rounds after {plan.warm_up} to warm "
        f"up, seed {plan.seed}",
    }
    if mix.leaving:
        asked["clients that leave"] = f"{mix.leaving:.0%}"
    if _is_asked_for("model", plan):
        asked["model asked for"] = plan.settings.model
    if _is_asked_for("cache_prompt", plan):
        asked["cache_prompt"] = "yes" if plan.settings.cache_prompt else "no"
    return asked


def _servers(plan: Plan, findings: Findings) -> dict[str, str]:
    """For the header, what each server says of itself; all other versions are the client's."""
    metrics = {name: before for name, before, _ in findings.metrics}
    return {
        f"server {target.name}": ", ".join([target.dialect.path, *about(metrics[target.name])])
        for target in plan.targets
    }


def _groups(plan: Plan, findings: Findings) -> list[list[list[Result]]]:
    """Groups the rounds by load and then by server."""
    names = [target.name for target in plan.targets]
    return [[_rounds(findings.results, load, name) for name in names] for load in plan.loads]


def _tables(groups: list[list[list[Result]]], findings: Findings) -> tuple[Table, ...]:
    flat = [rounds for group in groups for rounds in group]
    tables = [requests_table(flat), latency_table(flat)]
    if len(groups[0]) == 2:
        tables.append(ratios_table([(first, second) for first, second in groups]))
    if (metrics := metrics_table(findings.metrics)) is not None:
        tables.append(metrics)
    return tuple(tables)


def _rounds(results: Sequence[Result], load: Load, server: str) -> list[Result]:
    return [each for each in results if (each.load, each.server) == (load, server)]
