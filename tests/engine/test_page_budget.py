"""A sequence begins only where it can also end."""

from dataclasses import dataclass

import numpy as np
import pytest

from server.config import SamplingParameters
from server.engine.page_budget import PageBudget
from server.engine.sampling import Sampler
from server.engine.sequence import Sequence
from server.engine.windowed_text import WindowedText


@dataclass
class FakePages:
    free_pages: int
    unheld_pages: int = 0
    page_tokens: int = 4


def sequence(key: int, prompt: int, answer: int, *, read: int = 0, generated: int = 0) -> Sequence:
    tokens = np.zeros(prompt, np.int64)
    return Sequence(
        key=key,
        prompt=tokens,
        max_tokens=answer,
        eos_token_ids=frozenset(),
        sampler=Sampler(SamplingParameters(), tokens),
        text=WindowedText(lambda _: ""),
        read=read,
        generated=[0] * generated,
    )


def room(free_pages: int, *sequences: Sequence) -> PageBudget:
    return PageBudget(FakePages(free_pages), {each.key: each for each in sequences})


@pytest.mark.parametrize(
    ("prompt", "answer", "pages"), [(1, 1, 1), (3, 1, 1), (4, 1, 2), (9, 9, 5)]
)
def test_a_sequence_takes_pages_for_its_prompt_and_the_longest_answer(
    prompt: int, answer: int, pages: int
) -> None:
    one = sequence(0, prompt, answer)
    assert room(pages, one).fits(0, shared=0, beginning=())
    assert not room(pages - 1, one).fits(0, shared=0, beginning=())


def test_whole_pages_that_others_hold_are_not_taken_again() -> None:
    one = sequence(0, 12, 4)
    assert room(2, one).fits(0, shared=8, beginning=())
    assert not room(1, one).fits(0, shared=11, beginning=())  # the third page is its own


def test_what_those_that_run_will_still_need_is_not_free() -> None:
    """Two of six pages are to come; and of those that wait nothing."""
    running = sequence(0, 10, 14, read=10, generated=4)
    waiting = sequence(1, 40, 40)
    one = sequence(2, 4, 4)
    assert room(2 + 2, running, waiting, one).fits(2, shared=0, beginning=())
    assert not room(2 + 1, running, waiting, one).fits(2, shared=0, beginning=())


def test_nor_is_what_a_sequence_will_need_that_begins_in_the_same_step() -> None:
    other, one = sequence(0, 4, 4), sequence(1, 4, 4)
    assert room(3, other, one).fits(1, shared=0, beginning=())
    assert not room(3, other, one).fits(1, shared=0, beginning={0})


def test_kept_sequences_may_make_room() -> None:
    one = sequence(0, 4, 4)
    pages = PageBudget(FakePages(free_pages=1, unheld_pages=2), {0: one})
    assert not pages.fits(0, shared=0, beginning=())
    assert pages.fits(0, shared=0, beginning=(), without_copies=True)
