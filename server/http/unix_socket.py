"""UNIX sockets to listen on, and their files, from creation to removal."""

import os
import socket
import stat
from contextlib import ExitStack, suppress
from pathlib import Path

import trio

from server.config import UnixAddress
from server.errors import StartError

_FORBIDDEN = 0o117
"""The file's mode is 660: its owner and its group may connect."""
_BACKLOG = 0xFFFF
"""As trio has it for TCP; the system lowers it. Beyond it, a connect waits, or fails at once if it
must not block."""


class UnixListener(trio.abc.Listener[trio.SocketStream]):
    """Listens on a file that it owns. Closing it removes the file, unless another one has taken its
    place."""

    def __init__(self, opened: socket.socket, path: Path) -> None:
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(opened))
        self._path = path
        self._made = _identity(path)
        self.socket = self._listener.socket

    async def accept(self) -> trio.SocketStream:
        return await self._listener.accept()

    async def aclose(self) -> None:
        with suppress(OSError):
            if _identity(self._path) == self._made:
                self._path.unlink()
        await self._listener.aclose()


def open_unix_listener(address: UnixAddress) -> UnixListener:
    """Listen on `address`; the file of a server that no longer runs is replaced. Raises
    StartError."""
    try:
        _remove_stale(address)
        with ExitStack() as unless_all_goes_well:
            opened = unless_all_goes_well.enter_context(socket.socket(socket.AF_UNIX))
            before = os.umask(_FORBIDDEN)
            try:
                opened.bind(address.path)
            finally:
                os.umask(before)
            opened.listen(_BACKLOG)
            listener = UnixListener(opened, Path(address.path))
            unless_all_goes_well.pop_all()
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from error
    return listener


def _remove_stale(address: UnixAddress) -> None:
    path = Path(address.path)
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartError(f"cannot listen on {address}: the file there is no socket")
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.setblocking(False)  # the other one may be stuck, and its backlog full
            try:
                visitor.connect(address.path)
            except ConnectionRefusedError:
                path.unlink()
                return
            except BlockingIOError:
                pass
        raise StartError(f"cannot listen on {address}: another process listens there")


def _identity(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino, status.st_mtime_ns  # inode numbers are reused
