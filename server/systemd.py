"""A service's side of systemd: what its environment passes in, and the notifications that it wants.

sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3) in a few lines each, which are not worth a
dependency. Without systemd, nothing here does anything. Knows sockets, but no clock.
"""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from server.errors import StartError

log = logging.getLogger(__name__)


def inherited_sockets(environment: Mapping[str, str], first: int = 3) -> list[socket.socket]:
    """Return the listening TCP and UNIX sockets that were opened for this process, in the unit's
    order: the descriptors from `first` on.

    Raises `StartError` for a descriptor that is something else.
    """
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return []
    return [_listening(first + number) for number in range(int(count))]


def _listening(descriptor: int) -> socket.socket:
    try:
        inherited = socket.socket(fileno=descriptor)
        listens = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise StartError(f"descriptor {descriptor} from systemd: {error.strerror}") from None
    if not (listens and _is_served(inherited)):
        inherited.close()
        raise StartError(f"descriptor {descriptor} from systemd is no listening TCP or UNIX socket")
    inherited.set_inheritable(False)
    return inherited


def _is_served(inherited: socket.socket) -> bool:
    """Whether clients reach it by a host and a port, or by a file; not by an abstract name."""
    if inherited.type is not socket.SOCK_STREAM:
        return False
    if inherited.family is socket.AF_UNIX:
        return isinstance(inherited.getsockname(), str)
    return inherited.family in (socket.AF_INET, socket.AF_INET6)


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """The manager that the service reports its state to."""

    address: str | None
    """A UNIX socket; one in the abstract namespace begins with "@". None: there is no manager."""
    watchdog_seconds: float | None
    """The manager kills a service that is silent for so long; None: it does not."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "ServiceManager":
        microseconds = environment.get("WATCHDOG_USEC", "")
        pid = str(os.getpid())
        watched = microseconds.isdecimal() and environment.get("WATCHDOG_PID", pid) == pid
        seconds = int(microseconds) / 1e6 if watched else 0
        return cls(environment.get("NOTIFY_SOCKET") or None, seconds or None)

    def ready(self, status: str) -> None:
        """Report that the service is up; `status` is one line for the operator."""
        self._tell(f"READY=1\nSTATUS={status}")

    def ping_watchdog(self) -> None:
        """Report that the service lives; to be called within every `watchdog_seconds`."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the service has begun to shut down."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if self.address is None:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(errors="backslashreplace"), address)
        except OSError as error:  # a service can do without its manager
            log.warning("systemd did not take %r: %s", message, error)
