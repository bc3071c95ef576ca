"""The flags about the engine: how much runs at once, and on what."""

from server.config import EngineChoice
from server.cores import usable_cores
from server.options.flag import Flag, Group
from server.options.values import integer, nothing, switch

ENGINE = Group(
    "engine",
    "How much runs at once, and on what.",
    EngineChoice,
    {
        "slots": Flag("slots", "N", integer(1, 1024), "sequences that run at once", "4"),
        "context": Flag(
            "context",
            "TOKENS",
            integer(2, 2**31 - 1),
            "prompt and answer of one sequence together",
            "the smaller of the model's and 4096",
            nothing,
        ),
        "threads": Flag(
            "threads",
            "N",
            integer(1, 1024),
            "cores that one call into ONNX Runtime uses",
            "the cores that this process may use",
            usable_cores,
        ),
        "ignore_eos": Flag(
            "ignore-eos",
            None,
            switch,
            "generate to the limit whatever the model says; for benchmarks",
            "off",
        ),
    },
)
