"""The log's way to a stream, on which nobody waits but a thread of its own.

Knows queues and file descriptors; does not know how a record is written.
"""

import logging
import os
import queue
import select
import threading
from contextlib import suppress
from typing import TextIO

log = logging.getLogger(__name__)

ROOM = 1000
"""Lines that wait for a slow reader at most; later ones are dropped."""
_LAST_SECONDS = 1.0
"""At the end of the program, for what still waits."""


class LogWriter(logging.Handler):
    """Writes records as lines, in their order, without holding up who logs: where the stream's
    reader stalls, lines wait and then are dropped, and how many is a line in their place.

    Lines that the stream refuses are lost, as the log is no reason to end.
    """

    def __init__(self, stream: TextIO) -> None:
        """Goes past the stream's own buffer: a thread that is held up in there would keep the
        interpreter from ending."""
        super().__init__()
        self._descriptor, self._encoding = stream.fileno(), stream.encoding
        self._writable = select.poll()
        self._writable.register(self._descriptor, select.POLLOUT)
        self._waiting: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._dropped = 0
        """Lines of which none has told yet."""
        self._order = threading.RLock()
        """Of what is put into the queue. Not the handler's own lock, which `logging` holds while it
        waits for `flush`."""
        self._flushed = threading.Event()
        self._flushed.set()
        threading.Thread(target=self._live, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        with self._order:
            if self._dropped or self._waiting.qsize() >= ROOM:
                self._dropped += 1
                return
            try:
                self._waiting.put(self.format(record))
            except Exception:  # as every handler does: a record's fault is not its caller's
                self.handleError(record)

    def flush(self) -> None:
        """Returns when all lines until now are written, or after a second; at once where that was
        too short before, as `logging` calls this once more at the interpreter's end."""
        if self._flushed.is_set():
            self._flushed = threading.Event()
            self._tell_of_loss()
            self._waiting.put(self._flushed)
            self._flushed.wait(_LAST_SECONDS)

    def _live(self) -> None:
        while True:
            item = self._waiting.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            self._write(item)
            # Once half the queue is free. Told at the first free place, a slow reader would get one
            # line of loss after another, and nothing else.
            if self._dropped and self._waiting.qsize() <= ROOM // 2:
                self._tell_of_loss()

    def _tell_of_loss(self) -> None:
        """In the place of what was dropped, since nothing was let in after it."""
        with self._order:
            if self._dropped:
                self._waiting.put(self.format(_loss(self._dropped)))
                self._dropped = 0

    def _write(self, line: str) -> None:
        left = f"{line}\n".encode(self._encoding, "backslashreplace")
        with suppress(OSError):
            while left:
                self._writable.poll()  # what others made non-blocking, as they may a terminal
                left = left[os.write(self._descriptor, left) :]


def _loss(lines: int) -> logging.LogRecord:
    text = "%d lines of the log were dropped, since nobody read it"
    return log.makeRecord(log.name, logging.WARNING, __file__, 0, text, (lines,), None)
