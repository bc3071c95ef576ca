"""Where a prompt begins: the most that running and kept sequences have read of it."""

import numpy as np
import pytest

from server.config import PrefixCacheConfig, PrefixReuse
from server.engine.plan import PrefillCall
from server.engine.prefixes import Found, Prefixes
from server.engine.sequence import Sequence
from tests.engine.fake_decoder import FakeDecoder, FakeSaved, History
from tests.engine.play import Visitor, sequence_of

TEXT = tuple(range(1, 31)) * 3


class Engine:
    """Sequences that have read some of their prompts."""

    def __init__(self, reuse: PrefixReuse = PrefixReuse.PROMPTS, kept_tokens: int = 1000) -> None:
        self.decoder = FakeDecoder(slots=1)
        self.sequences: dict[int, Sequence] = {}
        config = PrefixCacheConfig(reuse, kept_tokens * self.decoder.token_bytes)
        self.prefixes = Prefixes(self.decoder, self.sequences, config)

    def has(self, key: int, prompt: History, read: int = 0) -> Sequence:
        sequence = self.sequences[key] = sequence_of(Visitor(key, prompt, max_tokens=9))
        sequence.read = read
        return sequence

    def keeps(self, prompt: History) -> None:
        """What an ended sequence had read."""
        self.decoder.prefill(0, 0, np.array(prompt))
        self.prefixes.keep(self.has(9, prompt, len(prompt)), slot=0)
        self.decoder.release(0)
        del self.sequences[9]

    def finds(self, key: int) -> int:
        """How many tokens of the prompt need not be read."""
        found = self.prefixes.find(key, [])
        assert found is not None
        return found.length


@pytest.mark.parametrize("read", [2, 10, 50])
def test_a_running_prompt_gives_what_it_has_read(read: int) -> None:
    engine = Engine()
    engine.has(0, TEXT[:50], read)
    engine.has(1, TEXT)
    assert engine.prefixes.find(1, []) == Found(0, read)


def test_the_last_two_tokens_are_always_read() -> None:
    engine = Engine()
    engine.has(0, TEXT[:50], read=50)
    for length, expected in ((51, 49), (50, 48), (5, 3), (4, 2)):
        engine.has(1, TEXT[:length])
        assert engine.prefixes.find(1, []) == Found(0, expected)
    for length in (1, 2, 3):
        engine.has(1, TEXT[:length])
        assert engine.prefixes.find(1, []) == Found()


def test_a_single_token_is_not_worth_a_copy() -> None:
    engine = Engine()
    engine.has(0, TEXT[:1], read=1)
    engine.has(1, TEXT)
    assert engine.prefixes.find(1, []) == Found()


def test_the_longer_of_a_running_and_a_kept_one_is_taken() -> None:
    engine = Engine()
    engine.keeps(TEXT[:40])
    engine.has(0, TEXT[:50], read=30)
    engine.has(1, TEXT)
    found = engine.prefixes.find(1, [])
    assert found is not None
    assert isinstance(found.source, FakeSaved)
    assert found.length == 40
    engine.sequences[0].read = 41
    assert engine.prefixes.find(1, []) == Found(0, 41)


def test_what_was_only_looked_at_was_not_used() -> None:
    engine = Engine(kept_tokens=20)
    first, second = (0, *TEXT[:9]), (0, *TEXT[20:29])
    engine.keeps(first)
    engine.keeps(second)
    engine.has(1, (*first, 7, 7))
    assert engine.finds(1) == 10
    engine.has(1, (0, 40, 41, 42))  # has the beginning of text in common with `second`
    assert engine.prefixes.find(1, []) == Found()
    engine.keeps((50, *TEXT[:9]))
    engine.has(1, (*first, 7, 7))
    assert engine.finds(1) == 10


def test_a_prompt_waits_for_one_that_reads_much_more_in_the_same_step() -> None:
    engine = Engine()
    engine.has(0, TEXT[:60], read=10)
    engine.has(1, TEXT)
    for stop, expected in ((41, Found(0, 10)), (42, None), (60, None)):
        reading = [PrefillCall(0, 0, 10, stop, last=stop == 60)]
        assert engine.prefixes.find(1, reading) == expected


def test_what_decoding_wrote_is_shared_only_if_told_to() -> None:
    for reuse, expected in ((PrefixReuse.PROMPTS, 5), (PrefixReuse.ALL, 7), (PrefixReuse.OFF, 0)):
        engine = Engine(reuse)
        engine.has(0, TEXT[:5], read=5).generated = list(TEXT[5:8])
        engine.has(1, TEXT)
        found = engine.prefixes.find(1, [])
        assert found is not None
        assert found.length == expected


def test_without_memory_for_a_copy_nothing_is_kept() -> None:
    def save(slot: int, length: int) -> FakeSaved:
        raise OSError("no memory")

    engine = Engine()
    engine.decoder.save = save  # type: ignore[method-assign]
    engine.keeps(TEXT)
    engine.has(1, TEXT)
    assert engine.prefixes.find(1, []) == Found()
