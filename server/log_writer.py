"""Writes the log to a stream in a thread of its own, so that no other thread waits for its reader.

Knows queues and file descriptors; does not know how a record is formatted.
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
"""At most so many lines wait for a slow reader; later ones are dropped."""
_LAST_SECONDS = 1.0
"""For the lines that still wait at the end of the program."""


class LogWriter(logging.Handler):
    """Writes records as lines, in their order, without blocking their callers: if the stream's
    reader stalls, lines wait, then they are dropped, and a line in their place says how many.

    Lines that the stream refuses are lost: a failing log is no reason to stop.
    """

    def __init__(self, stream: TextIO) -> None:
        """Bypasses the stream's own buffer: a thread that is blocked in there would keep the
        interpreter from exiting."""
        super().__init__()
        self._descriptor, self._encoding = stream.fileno(), stream.encoding
        self._writable = select.poll()
        self._writable.register(self._descriptor, select.POLLOUT)
        self._waiting: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._dropped = 0
        """Lost lines that no line has reported yet."""
        self._order = threading.RLock()
        """Guards the order of the queue. Not the handler's own lock, which `logging` holds while it
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
            except Exception:  # as every handler does: a bad record must not fail its caller
                self.handleError(record)

    def flush(self) -> None:
        """Returns when all lines so far are written, or after a second; at once if an earlier call
        ran out of time, as `logging` calls this once more when the interpreter exits."""
        if self._flushed.is_set():
            self._flushed = threading.Event()
            self._report_loss()
            self._waiting.put(self._flushed)
            self._flushed.wait(_LAST_SECONDS)

    def _live(self) -> None:
        while True:
            item = self._waiting.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            self._write(item)
            # Only once half the queue is free: at the first free place, a slow reader would get one
            # report of loss after another, and nothing else.
            if self._dropped and self._waiting.qsize() <= ROOM // 2:
                self._report_loss()

    def _report_loss(self) -> None:
        """Puts a line in the place of those dropped: nothing was queued after them."""
        with self._order:
            if self._dropped:
                self._waiting.put(self.format(_loss(self._dropped)))
                self._dropped = 0

    def _write(self, line: str) -> None:
        left = f"{line}\n".encode(self._encoding, "backslashreplace")
        with suppress(OSError):
            while left:
                self._writable.poll()  # others may have made it non-blocking, like a terminal
                left = left[os.write(self._descriptor, left) :]


def _loss(lines: int) -> logging.LogRecord:
    text = "%d lines of the log were dropped, since nobody read it"
    return log.makeRecord(log.name, logging.WARNING, __file__, 0, text, (lines,), None)
