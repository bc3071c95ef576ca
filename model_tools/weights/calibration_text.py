"""The texts over which an export measures how large a model's channels, keys and values are.

Text of many kinds, written for Skiff, and random tokens, which reach what no text does.
SmolLM2-135M in int8 has a mean KL of 0.0020 after these, and of 0.0022 after random tokens alone.
"""

from collections.abc import Callable, Sequence

import numpy as np

from model_tools.decoder_spec import DecoderSpec
from model_tools.verification.reference import Tokens

RANDOM_TOKENS = 128

TEXT = """\
Why is the sky blue in the day and red in the evening? Air scatters short waves of light more than
long ones, so blue light reaches us from every side. In the evening the light has a longer way
through the air, most of the blue is lost on it, and red remains.

The old harbour had two cranes, and only one of them worked. Every Monday the keeper, Mr. Alvarez,
climbed its 84 steps, oiled the wheel and wrote the date (e.g. 12 March 1957) into a small red book.
"And the other one?" I asked. He laughed. "That one I keep for the birds!"

def mean(values: list[float]) -> float:
    \"\"\"The arithmetic mean; 0.0 for no values.\"\"\"
    return sum(values) / len(values) if values else 0.0

{"name": "Ada", "age": 36, "tags": ["maths", "engines"], "active": true}

## Pancakes

1. Mix the flour with **2 eggs**, 250 ml of milk and a pinch of salt.
2. Wait for 30 minutes.
3. Fry in hot butter until golden - about 2 minutes per side.

Die Katze schläft auf dem warmen Dach, et le chien dort dans la cour. ¿Dónde está la biblioteca?
The committee shall publish its report within ninety days, provided that no member objects in
writing; otherwise section 4(b) applies. If x + 3 = 11, then x = 8, because 8 + 3 = 11.
"""


def calibration_texts(
    spec: DecoderSpec, encode: Callable[[str], Sequence[int]]
) -> tuple[Tokens, Tokens]:
    """The texts as tokens, each no longer than the context; the same at every call."""
    random = np.random.default_rng(0).integers(0, spec.vocabulary_size, RANDOM_TOKENS)
    text = np.array(encode(TEXT), np.int64)
    return text[: spec.context_length], random[: spec.context_length]
