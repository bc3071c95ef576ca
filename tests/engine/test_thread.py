"""The engine's thread by itself."""

import threading

from server.engine.core import EngineCore
from server.engine.pacer import Pacer
from server.engine.thread import EngineThread
from tests.engine.fake_decoder import FakeDecoder
from tests.engine.play import NO_REUSE


def test_with_nothing_to_do_memory_for_later_is_given_back() -> None:
    decoder = FakeDecoder()
    rested = threading.Event()
    decoder.on_rest = rested.set
    thread = EngineThread(on_lost=lambda: None, rest_after=0)
    core = EngineCore(decoder, lambda messages: None, Pacer(2), NO_REUSE)
    thread.start(core, warm_up=lambda: True)
    assert rested.wait(timeout=10)
    thread.stop()
    thread.join()
