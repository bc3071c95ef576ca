"""Prompts of random words: different, of given lengths, and the same for the same seed."""

import random
from dataclasses import dataclass

_TEXT = """
able about above across after again against almost along already also always among another
answer around away back base beautiful because become before began behind being below best
better between black blue book both bring brought build business cannot carry certain change
children city class clear close cold come common complete could country course cover cross
dark decide deep differ direct does done door down draw drive during each early earth east
easy effect energy enough even ever every example eye face fact family far farm fast father
feel feet few field figure final find fine fire first fish five fly follow food foot force
form found four free friend from front full game gave general give gold gone good govern
great green ground group grow half hand happen hard have head hear heart heat help here high
hold home horse hot hour house however hundred idea inch interest island just keep kind king
knew know land language large last late laugh lay lead learn leave left less letter life
light like line list listen little live long look love low machine made main make many map
mark measure mind minute miss money moon more morning most mother mountain move much music
must name near need never next night north nothing notice number object ocean often only
open order other over own page paint paper part pass pattern people perhaps person picture
piece place plain plan plane plant play point port power present problem produce product
"""
WORDS = _TEXT.split()


@dataclass(frozen=True, slots=True)
class Lengths:
    """A length, drawn uniformly from `low` to `high`, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low} to {self.high}"

    def draw(self, source: random.Random) -> int:
        return source.randint(self.low, self.high)


@dataclass(frozen=True, slots=True)
class Request:
    """What one client asks for."""

    prompt: str
    max_tokens: int
    leaves_after: int | None
    """Number of arrivals of bytes after which the client leaves; None if it stays."""


@dataclass(frozen=True, slots=True)
class Mix:
    """What all clients together ask for."""

    words: Lengths
    """Of a prompt, with the shared ones."""
    new_tokens: Lengths
    shared_words: int
    """Words with which all prompts begin alike; at most `words.low`."""
    leaving: float
    """The share of clients that leave before their answer ends."""

    def requests(self, count: int, seed: str) -> list[Request]:
        """The same for the same seed; prompts of different seeds share their first `shared_words`
        words and no more."""
        common = random.Random("shared").choices(WORDS, k=self.shared_words)  # noqa: S311 no secret
        source = random.Random(seed)  # noqa: S311 no secret
        return [self._request(common, source) for _ in range(count)]

    def _request(self, common: list[str], source: random.Random) -> Request:
        length, new_tokens = self.words.draw(source), self.new_tokens.draw(source)
        own = source.choices(WORDS, k=length - len(common))
        leaves = source.random() < self.leaving
        pieces = source.randint(1, new_tokens)
        prompt = " ".join([*common, *own])
        return Request(prompt, new_tokens, pieces if leaves else None)
