"""Which host names the server answers to: the defence against DNS rebinding.

A web page may let its own name point to 127.0.0.1 and then talk to a server there as to its own
origin. The name in the field Host gives it away. Knows no socket.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Protocol

from server.config import Address, UnixAddress

EVERY_HOST = "*"


class Hosts(Protocol):
    """Names that a request may be addressed to."""

    def __contains__(self, host: str, /) -> bool: ...


class AnyHost:
    """Every name, where none can be foreign."""

    def __contains__(self, host: str, /) -> bool:
        return True


class LocalHosts:
    """This machine's own names, and those that the operator added."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset({"localhost", *(name.lower() for name in names)})

    def __contains__(self, host: str, /) -> bool:
        return host in self._names or _is_loopback(host)


def hosts_for(
    address: Address | UnixAddress, named: Address | UnixAddress, allowed: Sequence[str]
) -> Hosts:
    """Return the names to accept in Host on a listener. One that other machines can reach has names
    that the server cannot know, so Host is not checked there; nor on UNIX sockets, which browsers
    do not reach.

    `named` is the address as the operator wrote it, `address` that of the listener.
    """
    local = isinstance(address, Address) and _is_loopback(address.host)
    if EVERY_HOST in allowed or not local:
        return AnyHost()
    return LocalHosts([named.host, *allowed] if isinstance(named, Address) else allowed)


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
