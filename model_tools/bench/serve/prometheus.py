"""Fetches and compares a server's metrics in Prometheus' text format, if it has them."""

import math
import re
import time
from collections.abc import Iterator

import h11

from model_tools.bench.serve.client import exchange
from model_tools.bench.serve.http_events import http_events
from model_tools.bench.serve.target import Target

SECONDS = 5.0
_SUM = re.compile(r"([\w:]+)_sum(|\{.*\})")
_INFO = re.compile(r"skiff_info\{(.*)\}")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_SAMPLE = re.compile(r"([A-Za-z_:][\w:]*(?:\{.*\})?)\s+(\S+)(?:\s+\d+)?")

DECODE_SHARE = "decode steps: share inside the runtime"
DECODE_SECONDS = "decode steps: mean seconds"
_STEPS, _STEP_SECONDS, _RUNTIME_SECONDS = (
    f'skiff_engine_{name}_total{{step="decode"}}'
    for name in ("steps", "step_seconds", "runtime_seconds")
)
_OF_STEPS = (
    (DECODE_SHARE, _RUNTIME_SECONDS, _STEP_SECONDS),
    (DECODE_SECONDS, _STEP_SECONDS, _STEPS),
)
"""Each a title and the counters of its numerator and denominator."""

Metrics = dict[str, float]
"""Values by name and labels, as the text spells them."""


async def fetch(target: Target) -> Metrics:
    """Returns the server's metrics; empty if it has none."""
    call, now = target.get("/metrics"), time.perf_counter()
    answer = await exchange(target, call, due=now, timeout=SECONDS)
    body = b""
    try:
        for _, event in http_events(answer):
            match event:
                case h11.Response(status_code=status) if status != 200:
                    return {}
                case h11.Data(data=payload):
                    body += payload
    except h11.RemoteProtocolError:
        return {}
    return parse(body.decode(errors="replace"))


def parse(text: str) -> Metrics:
    """Skips lines that are not samples, histograms' buckets, and NaN, which means no value yet."""
    metrics: Metrics = {}
    for line in text.splitlines():
        if (sample := _SAMPLE.fullmatch(line.strip())) and "_bucket{" not in line:
            try:
                value = float(sample[2])
            except ValueError:
                continue
            if not math.isnan(value):
                metrics[sample[1]] = value
    return metrics


def about(metrics: Metrics) -> list[str]:
    """The labels of `skiff_info`: version, runtime, device, threads and model."""
    found = [match[1] for name in metrics if (match := _INFO.fullmatch(name))]
    return [f"{name} {value}" for labels in found for name, value in _LABEL.findall(labels)]


def changed(before: Metrics, after: Metrics) -> list[tuple[str, float, float]]:
    """Name, value before and value after of each metric that changed; a new one counts from 0."""
    return [
        (name, before.get(name, 0.0), value)
        for name, value in after.items()
        if value != before.get(name, 0.0)
    ]


def quotients(before: Metrics, after: Metrics) -> Iterator[tuple[str, float]]:
    """Yields figures of the time between that need two metrics each: the mean of each histogram,
    and for Skiff's decode steps their mean time and the runtime's share of it."""
    pairs = [
        (f"{match[1]}_mean{match[2]}", name, f"{match[1]}_count{match[2]}")
        for name in after
        if (match := _SUM.fullmatch(name))
    ]
    for title, above, below in (*pairs, *_OF_STEPS):
        more = after.get(below, 0.0) - before.get(below, 0.0)
        if more and above in after:
            yield title, (after[above] - before.get(above, 0.0)) / more
