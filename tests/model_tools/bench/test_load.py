"""How clients come, on a clock that jumps; and what they ask."""

import itertools

import pytest
import trio
from trio.testing import MockClock

from model_tools.bench.serve.load import ClosedLoop, Load, OpenLoop
from model_tools.bench.serve.prompts import Lengths, Mix

ANSWER = 10.0
"""Seconds."""


def play(load: Load, requests: int, seed: str = "1") -> list[tuple[float, float]]:
    """When each request was sent and answered, by their order of sending."""
    seen: list[tuple[float, float]] = []

    async def send(request: int, due: float) -> None:
        start = trio.current_time()
        await trio.sleep(ANSWER)
        seen.append((start, trio.current_time()))

    async def run() -> None:
        await load.run(list(range(requests)), send, seed)

    trio.run(run, clock=MockClock(autojump_threshold=0))
    return sorted(seen)


def test_a_closed_loop_keeps_so_many_clients_waiting() -> None:
    seen = play(ClosedLoop(3), requests=8)
    assert [round((start - seen[0][0]) / ANSWER) for start, _ in seen] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_more_clients_than_requests_are_as_many_as_requests() -> None:
    assert len(play(ClosedLoop(8), requests=2)) == 2


def test_an_open_loop_comes_at_its_rate_whatever_is_unanswered() -> None:
    starts = [start for start, _ in play(OpenLoop(rate=50), requests=2000)]
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 50, rel=0.1)
    assert deviation == pytest.approx(mean, rel=0.1)  # as an exponential distribution has it


def test_a_request_that_is_late_counts_from_when_it_was_due() -> None:
    clock = MockClock(autojump_threshold=0)
    lateness: list[float] = []
    dues: list[float] = []

    async def send(request: int, due: float) -> None:
        dues.append(due)
        lateness.append(trio.current_time() - (due - dues[0]))
        if request == 0:
            clock.jump(1000)  # nobody can be sent for so long

    async def run() -> None:
        await OpenLoop(rate=50).run(range(5), send, "1")

    trio.run(run, clock=clock)
    assert max(dues) - dues[0] < 5
    assert min(lateness[1:]) > 990


def test_arrivals_are_those_of_the_seed() -> None:
    def starts(seed: str) -> list[float]:
        seen = play(OpenLoop(rate=5), requests=5, seed=seed)
        return [round(start - seen[0][0], 9) for start, _ in seen]

    assert starts("1") == starts("1") != starts("2")


def mix(shared_words: int = 0, leaving: float = 0.0) -> Mix:
    return Mix(Lengths(20, 30), Lengths(4, 6), shared_words, leaving)


def test_prompts_have_the_lengths_that_were_asked_for() -> None:
    requests = mix().requests(200, "seed")
    assert {len(request.prompt.split()) for request in requests} == set(range(20, 31))
    assert {request.max_tokens for request in requests} == {4, 5, 6}
    assert {request.leaves_after for request in requests} == {None}


def test_prompts_are_unlike_each_other_and_the_same_for_one_seed() -> None:
    requests = mix().requests(50, "seed")
    assert len({request.prompt[:40] for request in requests}) == 50
    assert requests == mix().requests(50, "seed")
    assert requests != mix().requests(50, "other")


def test_shared_words_are_common_to_all_seeds_and_no_more() -> None:
    prompts = [mix(10).requests(1, seed)[0].prompt.split() for seed in "abc"]
    assert prompts[0][:10] == prompts[1][:10] == prompts[2][:10]
    assert len({tuple(prompt[10:]) for prompt in prompts}) == 3


def test_a_share_of_the_clients_leaves() -> None:
    requests = mix(leaving=0.3).requests(1000, "seed")
    leaving = [request for request in requests if request.leaves_after is not None]
    assert 240 < len(leaving) < 360
