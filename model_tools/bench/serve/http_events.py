"""The bytes of an answer as HTTP's events, with their times. Knows h11, and no format of a body."""

from collections.abc import Iterator

import h11

from model_tools.bench.serve.client import End, Exchange


def http_events(exchange: Exchange) -> Iterator[tuple[float, h11.Event]]:
    """Up to the end of the message, once for an exchange. Raises `h11.RemoteProtocolError`, also
    where the server closed the connection too early."""
    connection = exchange.call.connection
    closing = [(exchange.due, b"")] if exchange.end is End.CLOSED else []
    for time, data in [*exchange.arrivals, *closing]:
        connection.receive_data(data)
        while isinstance(event := connection.next_event(), h11.Event):
            yield time, event
            if isinstance(event, h11.EndOfMessage):
                return
