"""The flags about the engine: how much runs at once, and on what."""

from server.config import GAP_STRETCH, EngineChoice
from server.cores import usable_cores
from server.options.flag import Flag, Group
from server.options.values import (
    device,
    integer,
    mebibytes,
    nothing,
    number,
    switch,
    unless,
)

MAX_SLOTS = 1024
MAX_THREADS = 1024
MAX_DRAFT = 30
DEVICE = Flag(
    "device",
    "DEVICE",
    device,
    "what runs the model: cpu, cuda or cuda:N; auto is cuda where driver, libraries\n"
    "and the folder are for it, and else the CPU",
    "auto",
)
ENGINE = Group(
    "engine",
    "How much runs at once, and on what.",
    EngineChoice,
    {
        "slots": Flag("slots", "N", integer(1, MAX_SLOTS), "sequences that run at once", "4"),
        "context": Flag(
            "context",
            "TOKENS",
            integer(2, 2**31 - 1),
            "prompt and answer of one sequence together",
            "the smaller of the model's and 4096",
            nothing,
        ),
        "device": DEVICE,
        "kv_bytes": Flag(
            "kv-mib",
            "MIB",
            mebibytes,
            "memory for keys and values in pages (skiff-export --kv-layout pages), kept\n"
            "prefixes included; a request waits until what it may need is free",
            "a whole context for each slot",
            nothing,
        ),
        "cuda_graphs": Flag(
            "no-cuda-graphs",
            None,
            unless,
            "launch each kernel of a decode step on its own; for drivers on which captured\n"
            "CUDA graphs fail",
            "off",
        ),
        "threads": Flag(
            "threads",
            "N",
            integer(1, MAX_THREADS),
            "cores that ONNX Runtime uses",
            "the cores that this process may use",
            usable_cores,
        ),
        "gap_stretch": Flag(
            "gap-stretch",
            "X",
            number(1, above_low=True),
            "how many times as long running streams' gaps may be while a prompt is read; up\n"
            "to 3, it is read beside them, on half of the cores; more reads it sooner",
            f"{GAP_STRETCH:g}",
        ),
        "speculate": Flag(
            "speculate",
            "N",
            integer(0, MAX_DRAFT),
            "guess up to N tokens ahead where the text repeats what came before, and verify\n"
            "them in one call; tokens may then round differently beside other requests",
            "0",
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
