"""The engine's facts as figures for Prometheus.

Names follow vLLM where it has the figure, after `skiff_`: the colon that vLLM writes after its
prefix is for recording rules. The three `paddler_` names are those of Paddler's balancer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from server.engine.events import FinishReason
from server.engine.facts import End, Fact, Occupancy, PrefillDone, RequestEnded, StepKind, StepTaken
from server.metrics import Family, Histogram, Kind, Sample

BOUNDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
"""Seconds. Close together where the gaps between tokens of small models lie."""


@dataclass(slots=True)
class _Steps:
    """Sums over steps of one kind."""

    count: int = 0
    seconds: float = 0.0
    runtime_seconds: float = 0.0


class EngineMetrics:
    """Turns facts into figures. Each figure is written by one thread, that of its facts."""

    def __init__(self) -> None:
        self.serving: Mapping[str, str] = {}
        """The labels of `skiff_info`; empty until the model is loaded."""
        self._queue = Histogram(BOUNDS)
        self._prefill = Histogram(BOUNDS)
        self._first_token = Histogram(BOUNDS)
        self._gaps = Histogram(BOUNDS)
        self._decode = Histogram(BOUNDS)
        self._whole = Histogram(BOUNDS)
        self._steps = {kind: _Steps() for kind in StepKind}
        self._prompt_tokens = 0
        self._reused_tokens = 0
        self._generated_tokens = 0
        self._ends: dict[End, int] = dict.fromkeys([*FinishReason, None], 0)

    def take(self, fact: Fact) -> None:
        """Take in a fact; this is an `Observe`."""
        match fact:
            case StepTaken():
                self._take_step(fact)
            case PrefillDone():
                self._take_prompt(fact)
            case RequestEnded():
                self._take_end(fact)

    def _take_step(self, step: StepTaken) -> None:
        steps = self._steps[step.kind]
        steps.count += 1
        steps.seconds += step.seconds
        steps.runtime_seconds += step.runtime_seconds
        self._generated_tokens += step.generated_tokens
        for seconds, tokens in step.gaps.items():
            self._gaps.observe(seconds, tokens)

    def _take_prompt(self, prompt: PrefillDone) -> None:
        self._prompt_tokens += prompt.prompt_tokens
        self._reused_tokens += prompt.reused_tokens
        self._queue.observe(prompt.queue_seconds)
        self._prefill.observe(prompt.prefill_seconds)
        self._first_token.observe(prompt.queue_seconds + prompt.prefill_seconds)

    def _take_end(self, ended: RequestEnded) -> None:
        self._ends[ended.end] = self._ends.get(ended.end, 0) + 1
        if isinstance(ended.end, FinishReason):
            self._decode.observe(ended.decode_seconds)
            self._whole.observe(ended.seconds)

    def families(self, now: Occupancy) -> Iterator[Family]:
        """Yield all figures; `now` is how full the engine is."""
        if self.serving:
            about, one = "What is served, and with what.", Sample(1, self.serving)
            yield Family("skiff_info", Kind.GAUGE, about, (one,))
        yield from self._latencies()
        yield from _gauges(now)
        yield from self._tokens()
        yield from self._requests()
        yield from self._engine()

    def _latencies(self) -> Iterator[Family]:
        for name, histogram, about in (
            ("time_to_first_token", self._first_token, "From arrival to the first token."),
            ("inter_token_latency", self._gaps, "From a token to the next of the same request."),
            ("e2e_request_latency", self._whole, "From arrival to the end, where it finished."),
            ("request_queue_time", self._queue, "From arrival to the first call for the prompt."),
            ("request_prefill_time", self._prefill, "From that call to the first token."),
            ("request_decode_time", self._decode, "From the first token to the end."),
        ):
            yield Family(f"skiff_{name}_seconds", Kind.HISTOGRAM, about, histogram.samples())

    def _tokens(self) -> Iterator[Family]:
        yield _counter(
            "prompt_tokens", "Tokens of prompts that were read whole.", self._prompt_tokens
        )
        yield _counter("generation_tokens", "Tokens that were chosen.", self._generated_tokens)
        about = "Tokens of prompts that were read whole."
        yield _counter("prefix_cache_queries", about, self._prompt_tokens)
        about = "Of these, tokens that were known and not read again."
        yield _counter("prefix_cache_hits", about, self._reused_tokens)

    def _requests(self) -> Iterator[Family]:
        success = [
            Sample(count, {"finished_reason": end.value})
            for end, count in self._ends.items()
            if isinstance(end, FinishReason)
        ]
        about = "Requests that finished."
        yield Family("skiff_request_success_total", Kind.COUNTER, about, tuple(success))
        failures = [
            Sample(count, {"code": str(end)})
            for end, count in sorted(self._ends.items(), key=lambda each: str(each[0]))
            if isinstance(end, int)
        ]
        about = "Requests that ended with an error, by its code."
        yield Family("skiff_request_failures_total", Kind.COUNTER, about, tuple(failures))
        yield _counter(
            "request_aborted", "Requests whose client left before the end.", self._ends[None]
        )

    def _engine(self) -> Iterator[Family]:
        for name, field, about in (
            ("steps", "count", "Steps of the engine's thread; prompt ones also read prompts."),
            ("step_seconds", "seconds", "Wall time of these steps."),
            (
                "runtime_seconds",
                "runtime_seconds",
                "Of it, time inside ONNX Runtime's calls and waiting for a GPU.",
            ),
        ):
            samples = (
                Sample(getattr(steps, field), {"step": kind.value})
                for kind, steps in self._steps.items()
            )
            yield Family(f"skiff_engine_{name}_total", Kind.COUNTER, about, tuple(samples))


def _counter(name: str, about: str, value: float) -> Family:
    return Family(f"skiff_{name}_total", Kind.COUNTER, about, (Sample(value),))


def _gauges(now: Occupancy) -> Iterator[Family]:
    running = "Requests admitted to a slot; with --kv-mib some may still wait for memory."
    for name, value, about in (
        ("skiff_num_requests_running", len(now.taken), running),
        ("skiff_num_requests_waiting", now.waiting, "Requests that wait for a slot."),
        ("skiff_kv_cache_usage_ratio", now.kv_usage, "Tokens held, of slots times context."),
        ("paddler_slots_processing", len(now.taken), "Slots that are taken."),
        ("paddler_slots_total", now.slots, "Slots; 0 while the model is still loading."),
        ("paddler_requests_buffered", now.waiting, "Requests that wait for a slot."),
    ):
        yield Family(name, Kind.GAUGE, about, (Sample(value),))
