"""Which connections stay when more clients come than may be connected, and at shutdown, and which
one begins a request next. Knows no socket, no HTTP and no clock.

One connection above the limit closes the one that has waited longest without a complete request: an
idle or a slow one, whose client loses no answer. If every connection carries a request, the newest
one is refused.
"""

import trio

_REFUSED_AT_ONCE = 32
"""At most so many refused connections stay until their clients have read the reason."""


class OpenConnections:
    """All connections of a server; each is identified by the cancel scope that ends it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._carrying: set[trio.CancelScope] = set()
        # Dictionaries, for their order: the first one has waited longest.
        self._waiting: dict[trio.CancelScope, None] = {}
        self._refused: dict[trio.CancelScope, None] = {}
        self._accepting: list[trio.CancelScope] = []
        self._turnstile = trio.Lock()
        self._at_turnstile: set[trio.CancelScope] = set()
        """Of those that wait, the ones whose next request has come."""
        self.draining = False
        """Whether each answer that begins is the last one of its connection."""
        self.closed = False
        """Whether clients have no time left to send a request."""

    def accepting(self) -> trio.CancelScope:
        """Return a new scope to put around the code that accepts a listener's clients."""
        scope = trio.CancelScope()
        self._accepting.append(scope)
        return scope

    def add(self, connection: trio.CancelScope) -> bool:
        """Let a connection in, and end another one for it if need be; False if all others carry
        requests, and this one has to be refused."""
        full = len(self._carrying) + len(self._waiting) >= self._limit
        idle = (each for each in self._waiting if each not in self._at_turnstile)
        oldest = next(idle, None) if full else None
        let_in = not full or oldest is not None
        if not let_in and len(self._refused) >= _REFUSED_AT_ONCE:
            oldest = next(iter(self._refused))
        if oldest is not None:
            self.remove(oldest)
            oldest.cancel()
        (self._waiting if let_in else self._refused)[connection] = None
        return let_in

    async def take_turn(self, connection: trio.CancelScope) -> None:
        """Let a request begin whose first bytes have come: while others are being answered, one in
        each turn of the event loop, in order of arrival. So streams get their turn between any two
        requests of a burst; 300 in one turn held them up for a tenth of a second."""
        if self._carrying:  # otherwise nobody is held up, and a health check would take longer
            self._at_turnstile.add(connection)
            try:
                async with self._turnstile:  # Trio hands a lock over in the next turn
                    pass
            finally:
                self._at_turnstile.remove(connection)

    def request_arrived(self, connection: trio.CancelScope) -> None:
        """Note that a whole request has arrived on a connection that was let in, and not ended."""
        del self._waiting[connection]
        self._carrying.add(connection)

    def request_answered(self, connection: trio.CancelScope) -> None:
        """Note that the request was answered, or refused by its head."""
        if connection in self._carrying or connection in self._waiting:
            self._carrying.discard(connection)
            self._waiting.pop(connection, None)  # it waits from now on
            self._waiting[connection] = None

    def drain(self) -> None:
        """Accept no more clients; those that are connected may still send one request."""
        for scope in self._accepting:
            scope.cancel()
        self.draining = True

    def close(self) -> None:
        """End every connection that carries no request."""
        self.closed = True
        for connection in list(self._waiting):
            connection.cancel()

    def remove(self, connection: trio.CancelScope) -> None:
        """Note that the connection is over."""
        self._carrying.discard(connection)
        self._waiting.pop(connection, None)
        self._refused.pop(connection, None)
