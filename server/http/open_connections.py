"""Who stays when more clients come than may be connected, and when the server ends. Knows no
socket, no HTTP and no clock.

One client more than there are places for closes the connection that has waited longest without a
complete request: an idle or a slow one, whose client loses no answer. Where every connection
carries a request, the one that came last is refused.
"""

import trio

_REFUSED_AT_ONCE = 32
"""Refused connections that may stay until their clients have read why."""


class OpenConnections:
    """The places of all connections of a server; each is known by the scope that ends it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._carrying: set[trio.CancelScope] = set()
        # Dictionaries, for their order: who came first has waited longest.
        self._waiting: dict[trio.CancelScope, None] = {}
        self._refused: dict[trio.CancelScope, None] = {}
        self._accepting: list[trio.CancelScope] = []
        self.draining = False
        """Whether each answer is to be the last one of its connection."""
        self.closed = False
        """Whether there is no time left to send a request."""

    def accepting(self) -> trio.CancelScope:
        """A scope to be around what lets clients in, for each listener one."""
        scope = trio.CancelScope()
        if self.draining:
            scope.cancel()
        self._accepting.append(scope)
        return scope

    def enter(self, connection: trio.CancelScope) -> bool:
        """Let a connection in, and another one end for it; False: all carry requests."""
        room = self._most - len(self._carrying)
        line, longest = (self._waiting, room) if room else (self._refused, _REFUSED_AT_ONCE)
        while len(line) >= longest:
            first = next(iter(line))
            del line[first]
            first.cancel()
        line[connection] = None
        return room > 0

    def carries(self, connection: trio.CancelScope) -> None:
        """A whole request has arrived."""
        if connection in self._waiting:  # and was not told to end just now
            del self._waiting[connection]
            self._carrying.add(connection)

    def waits(self, connection: trio.CancelScope) -> None:
        """The request was answered, or refused by its head."""
        if connection in self._carrying or connection in self._waiting:
            self._carrying.discard(connection)
            self._waiting.pop(connection, None)  # it waits from now on
            self._waiting[connection] = None

    def drain(self) -> None:
        """Nobody is let in any more; who is there may still ask for something."""
        for scope in self._accepting:
            scope.cancel()
        self.draining = True

    def close(self) -> None:
        """The end of every connection that carries no request."""
        self.closed = True
        for connection in list(self._waiting):
            connection.cancel()

    def leave(self, connection: trio.CancelScope) -> None:
        """The connection is over."""
        self._carrying.discard(connection)
        self._waiting.pop(connection, None)
        self._refused.pop(connection, None)
