"""What is timed and compared is what all sequences did: one that fails ends it."""

import numpy as np
import pytest

from model_tools.gpu_check.streams import Streams, alone
from tests.engine.fake_decoder import FakeDecoder, ModelBroke

PROMPT = np.array([3, 1, 4])
FAILED = "the model failed, or its logits are no numbers"


def breaks(first: int) -> FakeDecoder:
    """A decoder whose calls from number `first` on fail."""

    def on_call(number: int) -> None:
        if number >= first:
            raise ModelBroke("CUDA failure 2: out of memory; GPU=0")

    return FakeDecoder(on_call=on_call)


def test_a_prompt_that_fails_is_not_waited_for() -> None:
    streams = Streams(breaks(0))
    streams.submit(PROMPT, 9)
    with pytest.raises(RuntimeError, match=f"^{FAILED}: CUDA failure 2: out of memory$"):
        streams.step()


def test_steps_without_those_that_failed_are_not_timed() -> None:
    streams = Streams(breaks(4))
    streams.begin([streams.submit(PROMPT, 60)])
    with pytest.raises(RuntimeError, match=f"^{FAILED}: CUDA failure 2: out of memory$"):
        streams.timed(20)


def test_logits_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(RuntimeError, match=f"^{FAILED}$"):
        alone(FakeDecoder(nan_rows={2: {0}}), PROMPT, 9)
