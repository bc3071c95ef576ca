"""Drafts that are often right, for a model whose text repeats nothing."""

import random

from server.engine.lookup import Draft
from tests.engine.fake_decoder import VOCABULARY, History, greedy_tokens

LONGEST = 5


class Prophet:
    """A `Drafter` that knows what the fake model would say, and tells it but for a few lies."""

    def __init__(self, prompt: History) -> None:
        self._prompt = prompt
        self._random = random.Random(repr(prompt))
        self.verdicts: list[tuple[int, int]] = []
        """Of each draft how much there was, and how much of it was accepted."""

    def draft(self, generated: list[int], room: int) -> Draft:
        length = min(self._random.randrange(LONGEST + 1), room)
        truth = greedy_tokens((*self._prompt, *generated), length)
        return tuple(
            token if self._random.random() < 0.8 else self._random.randrange(VOCABULARY)
            for token in truth
        )

    def verified(self, drafted: int, accepted: int) -> None:
        self.verdicts.append((drafted, accepted))
