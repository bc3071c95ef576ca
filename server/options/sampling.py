"""The flags about sampling, which hold for all requests."""

from server.config import SamplingChoice
from server.options.flag import Flag, Group
from server.options.values import integer, nothing, number

SAMPLING = Group(
    "sampling",
    "Where neither flag nor variable says it, the model folder's generation_config.json does,\n"
    "and then the default.",
    SamplingChoice,
    {
        "temperature": Flag(
            "temperature",
            "X",
            number(0),
            "0 takes the likeliest token, more is more random",
            "0, greedy",
            nothing,
        ),
        "top_k": Flag(
            "top-k",
            "N",
            integer(0, 2**31 - 1),
            "choose among the N likeliest; 0: all",
            "0",
            nothing,
        ),
        "top_p": Flag(
            "top-p",
            "X",
            number(0, 1, above_low=True),
            "choose among the likeliest that make up X",
            "1",
            nothing,
        ),
        "min_p": Flag(
            "min-p",
            "X",
            number(0, 1),
            "leave out what is less likely than X times the likeliest",
            "0",
            nothing,
        ),
        "repetition_penalty": Flag(
            "repetition-penalty",
            "X",
            number(0, above_low=True),
            "above 1 repeats less",
            "1",
            nothing,
        ),
        "seed": Flag(
            "seed",
            "N",
            integer(0, 2**63 - 1),
            "same seed and prompt, same tokens",
            "a fresh one each time",
            nothing,
        ),
    },
)
