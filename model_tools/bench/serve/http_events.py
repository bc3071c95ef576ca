"""Parses an answer's bytes into HTTP events with their times. Knows h11; does not know bodies."""

from collections.abc import Iterator

import h11

from model_tools.bench.serve.client import End, Exchange


def http_events(exchange: Exchange) -> Iterator[tuple[float, h11.Event]]:
    """Yields events up to the end of the message; can run only once for an exchange. Raises
    `h11.RemoteProtocolError`, also if the server closed the connection too early."""
    connection = exchange.call.connection
    closing = [(exchange.due, b"")] if exchange.end is End.CLOSED else []
    for time, data in [*exchange.arrivals, *closing]:
        connection.receive_data(data)
        while isinstance(event := connection.next_event(), h11.Event):
            yield time, event
            if isinstance(event, h11.EndOfMessage):
                return
