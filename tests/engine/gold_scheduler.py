"""The scheduler as it must be, without slots: everything is worked out again for each step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.engine.costs import Rates
from server.engine.lookup import Draft
from server.engine.pace import Pace
from server.engine.prefixes import Found


@dataclass(frozen=True, slots=True)
class Read:
    """A prompt's tokens from `start` to `stop`."""

    key: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class GoldStep:
    decoded: frozenset[int]
    verified: frozenset[int]
    reads: tuple[Read, ...]
    begins: Read | None


class GoldScheduler:
    """Same calls as `Scheduler`, but for the order of the decode rows."""

    def __init__(
        self, slots: int, tile: int, find: Callable[[int], Found | None], *, beside: bool
    ) -> None:
        self._can_read_beside = beside
        self._beside: Read | None = None
        self._slots = slots
        self._tile = tile
        self._find = find
        self._prompts: dict[int, int] = {}
        """Length of each prompt, in order of arrival."""
        self._begun: dict[int, int] = {}
        """Tokens that each prompt did not need to read, for those of which something was read."""
        self._reads: list[Read] = []
        self._decodes: list[int] = []
        """A key for each token that was decoded."""

    def submit(self, key: int, prompt_tokens: int) -> None:
        self._prompts[key] = prompt_tokens

    def remove(self, key: int) -> None:
        del self._prompts[key]

    def accepted(self, key: int, tokens: int) -> None:
        self._decodes += [key] * tokens

    def beside_ended(self) -> None:
        if self._beside and self._beside.key in self._prompts:
            self._reads.append(self._beside)
        self._beside = None

    def plan(self, pace: Pace, drafts: Mapping[int, Draft]) -> GoldStep:
        decoded = frozenset(key for key in self._prompts if not self._unread(key))
        past = sum(self._prompts[key] + self._decodes.count(key) for key in decoded)
        everyone = min(len(self._prompts), self._slots)
        decode = pace.costs.decode_seconds(len(decoded), past)
        step = pace.stretch * pace.costs.decode_seconds(everyone, past)
        self._decodes += decoded
        reads, begins = list[Read](), None
        beside = self._can_read_beside and decoded and pace.stretch <= 3
        if self._beside is None and beside:
            begins = self._beside = self._first_beside(pace, len(decoded))
        elif self._beside is None:
            seconds = min(step - decode, pace.longest_call) if decoded else pace.longest_call
            reads = self._in_the_step(pace, seconds, len(decoded))
        verified = frozenset(drafts)
        return GoldStep(decoded - verified, verified, tuple(reads), begins)

    def _first_beside(self, pace: Pace, decoding: int) -> Read | None:
        for key in [key for key in self._prompts if self._unread(key)]:
            if decoding == self._slots or not self._begin(key):
                return None
            unread, start = self._unread(key), self._prompts[key] - self._unread(key)
            rates, seconds = pace.costs.prompt_beside, pace.longest_call_beside
            longest = max(affordable(rates, unread, start, seconds), 4)
            pieces = -(-unread // longest)
            length = longest_read(unread, max(-(-unread // pieces), 4), self._tile)
            return Read(key, start, start + length)
        return None

    def _in_the_step(self, pace: Pace, seconds: float, decoding: int) -> list[Read]:
        running, reads, rates = decoding, list[Read](), pace.costs.prompt
        for key in [key for key in self._prompts if self._unread(key)]:
            no_time = reads and rates.prompt_seconds(4, 0) > seconds
            if running == self._slots or no_time or not self._begin(key):
                break
            start = self._prompts[key] - self._unread(key)
            least = 4
            if not reads:  # nearly as long as the least at the prompt's end
                at_end = rates.prompt_seconds(
                    max(rates.min_tokens(self._prompts[key]), 4), self._prompts[key]
                )
                as_long = affordable(
                    rates, self._unread(key), start, min(0.75 * at_end, pace.longest_call)
                )
                least = max(rates.min_tokens(start), as_long, 4)
            budget = affordable(rates, self._unread(key), start, seconds)
            length = longest_read(self._unread(key), max(budget, least), self._tile)
            seconds -= rates.prompt_seconds(length, start)
            reads.append(Read(key, start, start + length))
            self._reads.append(reads[-1])
            running += 1
            if self._unread(key):  # one prompt at a time
                break
        return reads

    def _begin(self, key: int) -> bool:
        """Whether the prompt can be read now."""
        if key not in self._begun:
            found = self._find(key)
            if found is None:
                return False
            self._begun[key] = found.length
        return True

    def _unread(self, key: int) -> int:
        read = sum(read.stop - read.start for read in self._reads if read.key == key)
        return self._prompts[key] - self._begun.get(key, 0) - read


def longest_read(unread: int, budget: int, tile: int) -> int:
    """The most of a prompt's unread tokens that may be read, with a budget of 4 or more.

    Tokens are read `tile` at a time, and of several tokens none may ever be left alone: not in the
    last tile, and not as what remains. A prompt of one token is read as it is.
    """
    if unread == 1:
        return 1
    lengths = [length for length in range(2, min(unread, budget) + 1) if unread - length != 1]
    return max(length for length in lengths if length % tile != 1)


def affordable(rates: Rates, unread: int, past: int, seconds: float) -> int:
    lengths = range(1, unread + 1)
    return max((n for n in lengths if rates.prompt_seconds(n, past) <= seconds), default=0)
