"""Statistics of one request from its arrival to its end, for observers.

Lives in the network's thread. The engine's thread writes a sequence's counts and times; here they
are only read, each one whole, and at most a step late.
"""

from collections.abc import Callable

from server.engine.facts import Activity, End, RequestEnded, SlotState
from server.engine.sequence import Sequence


class RequestStats:
    """A request that arrives now."""

    def __init__(self, request_id: str, clock: Callable[[], float]) -> None:
        """`clock` is that of the engine's thread."""
        self.request_id = request_id
        self.arrived = clock()
        self.sequence: Sequence | None = None
        """None until the prompt is tokenised."""
        self._clock = clock

    @property
    def held_tokens(self) -> int:
        """Tokens whose keys and values its slot holds."""
        return self.sequence.held if self.sequence else 0

    @property
    def slot_state(self) -> SlotState:
        """The state of its slot, if it has one."""
        sequence = self.sequence
        if sequence is None:
            return SlotState(self.request_id, Activity.QUEUE, 0, 0, 0, 0)
        return SlotState(
            self.request_id,
            _activity(sequence),
            len(sequence.prompt),
            sequence.read,
            sequence.reused,
            len(sequence.generated),
        )

    def ended(self, end: End) -> RequestEnded:
        """How its time was spent until now, when it ends; `end` is that of `RequestEnded`."""
        sequence = self.sequence
        if sequence is None:
            return RequestEnded(self.request_id, end, queue_seconds=self._clock() - self.arrived)
        # Read before the clock, since the engine's thread may set them meanwhile.
        first_token, begun = sequence.first_token, sequence.begun
        now = self._clock()
        first_token = now if first_token is None else first_token
        begun = first_token if begun is None else begun
        return RequestEnded(
            self.request_id,
            end,
            len(sequence.prompt),
            sequence.reused,
            len(sequence.generated),
            begun - self.arrived,
            first_token - begun,
            now - first_token,
        )


def _activity(sequence: Sequence) -> Activity:
    if sequence.begun is None:
        return Activity.QUEUE
    return Activity.PREFILL if sequence.first_token is None else Activity.DECODE
