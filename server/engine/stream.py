"""What one client hears of its request, and when its waiting has lasted too long.

Knows trio, as the engine's other half of the front; does not know the engine.
"""

import trio

from server.config import Patience
from server.engine.account import Account
from server.engine.events import Event, Failed, Finished, News, Progress

OVERFLOW = Failed(503, "Buffered requests overflow")
NO_SLOT = Failed(504, "Waiting for available slot timed out")
NO_PROGRESS = Failed(504, "Inference timed out: the request made no progress")


class Stream:
    """The events of one request, on their way from the engine to the client.

    `events` has room for all that the request can cause, a context of tokens at most: nothing ever
    waits for a slow client, and what lies there for it is small beside the keys and values of the
    same tokens. A client that stops reading is dropped by its connection.
    """

    def __init__(self, key: int, account: Account, context: int) -> None:
        self.key = key
        self.account = account
        # Tokens, what the last of them held back, and the end.
        self._send, self.events = trio.open_memory_channel[Event](context + 2)
        self._admitted = trio.Event()
        self._begun = trio.Event()
        self._progress = 0.0
        self.encoding = trio.CancelScope()
        """Around what turns the prompt into tokens; cancelled at the end of the stream."""
        self.waiting = trio.CancelScope()
        """Around `late`; cancelled at the end of the stream."""
        self.left = trio.Event()
        """Set when the client's block was left: nobody reads the events any more."""

    def admit(self) -> None:
        """The request has, or is next to have, a slot."""
        self._admitted.set()

    def hear(self, news: News) -> None:
        """From the engine. After a terminal event there may be no other."""
        self._progress = trio.current_time()
        self._admitted.set()
        self._begun.set()
        if isinstance(news, Progress):
            return
        self._send.send_nowait(news)
        if isinstance(news, Finished | Failed):
            self.end()

    def end(self) -> None:
        """There is nothing more to come."""
        self._send.close()
        self.encoding.cancel()
        self.waiting.cancel()

    async def late(self, patience: Patience) -> Failed:
        """Waits until the request has waited too long; what is then to be said.

        Time counts while there is no slot, and again from the start of the prompt. In between,
        other prompts are encoded and read, and waiting for them counts against nothing.
        """
        with trio.move_on_after(patience.buffered_seconds):
            await self._admitted.wait()
        if not self._admitted.is_set():
            return NO_SLOT
        await self._begun.wait()
        while (due := self._progress + patience.progress_seconds) > trio.current_time():
            await trio.sleep_until(due)
        return NO_PROGRESS
