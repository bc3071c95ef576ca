"""The engine's thread by itself."""

import threading
import time

from server.engine.core import EngineCore
from server.engine.pacer import Pacer
from server.engine.thread import EngineThread
from tests.engine.fake_decoder import FakeDecoder
from tests.engine.play import NO_REUSE


def test_with_nothing_to_do_memory_for_later_is_given_back() -> None:
    """Also where the thread is asked more often than that."""
    decoder = FakeDecoder()
    rested = threading.Event()
    decoder.on_rest = rested.set
    thread = EngineThread(on_lost=lambda: None, rest_after=0.1)
    core = EngineCore(decoder, lambda messages: None, Pacer(2), NO_REUSE)
    thread.start(core, warm_up=lambda: True)
    give_up = time.monotonic() + 10
    while not rested.is_set() and time.monotonic() < give_up:
        answered = threading.Event()
        thread.ask(answered.set)
        assert answered.wait(timeout=10)
    assert rested.is_set()
    thread.stop()
    thread.join()
