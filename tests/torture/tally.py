"""What an attack did, and what it saw go wrong."""

from dataclasses import dataclass, field

import trio


@dataclass(slots=True)
class Tally:
    """For one phase. An attack goes on until `over` is set, then waits for its clients to leave."""

    count: int = 0
    wrong: set[str] = field(default_factory=set)
    """Sentences, each once: an answer that must not be, a connection that outlives its deadline."""
    slow: set[str] = field(default_factory=set)
    """Sentences about what took too long, which may be the machine's doing."""
    heard: trio.Event = field(default_factory=trio.Event)
    """Set when the measurement of canaries begins; bursts wait for it."""
    over: trio.Event = field(default_factory=trio.Event)

    def check(self, holds: bool, sentence: str) -> None:
        if not holds:
            self.wrong.add(sentence)

    def check_time(self, holds: bool, sentence: str) -> None:
        if not holds:
            self.slow.add(sentence)
