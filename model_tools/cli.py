"""The `skiff-export` command: argv to an export."""

import argparse
import signal
import sys
from pathlib import Path

from server import __version__
from server.interrupt import unwind_at
from server.program import Parser, program

try:
    from model_tools.export import export
    from model_tools.progress_bar import ProgressBar
    from model_tools.recipe import BLOCK_SIZES, FloatType, KvLayout, KvType, Target, WeightType
except ModuleNotFoundError as error:
    sys.exit(f"skiff-export: {error.name} is missing: pip install 'skiff-llm[export]'")


def main() -> None:
    """Runs the command and ends the process."""
    with program("skiff-export"):
        unwind_at(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        flags = _parser().parse_args()
        with ProgressBar() as report:
            verification = export(
                flags.source,
                flags.folder,
                target=flags.target,
                weights=flags.weights,
                activations=flags.activations,
                block_size=flags.block_size,
                kv=flags.kv,
                kv_layout=flags.kv_layout,
                equalise=flags.equalise,
                verify=flags.verify,
                force=flags.force,
                report=report,
            )
        if verification is not None:
            print(verification)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="skiff-export",
        description="Makes a model folder for skiff out of a GGUF file.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", type=_path, help="a GGUF file of the llama architecture")
    add(
        "folder",
        metavar="FOLDER",
        type=_path,
        help="the model folder to write; missing folders above it are created",
    )
    add(
        "--target",
        choices=[str(target) for target in Target],
        default="cpu",
        help="what the graph is made for (default: cpu)",
    )
    add(
        "--weights",
        choices=[str(weights) for weights in WeightType],
        help="how matrices are stored; floats as what is computed in (default: int8 for the CPU, "
        "floats for CUDA)",
    )
    add(
        "--activations",
        choices=[str(each) for each in FloatType],
        help="what is computed in, keys and values too: fp32 for the CPU, and for CUDA fp16 or "
        "bf16 (default: fp32 for the CPU, fp16 for CUDA)",
    )
    add(
        "--kv",
        choices=[str(each) for each in KvType],
        default="float",
        help="what keys and values are kept as: what is computed in, or 8 bits, which take a "
        "quarter of the memory on the CPU and half of it on CUDA, and are less exact (default: "
        "float)",
    )
    add(
        "--kv-layout",
        choices=[str(each) for each in KvLayout],
        default="slots",
        help="how keys and values lie: a piece for each sequence, or for CUDA pages that sequences "
        "share, for many of them (default: slots)",
    )
    add(
        "--block-size",
        type=int,
        choices=BLOCK_SIZES,
        help="integers that share a scale; fewer are nearer to the source, more are faster; "
        "with 32, and int8 with 64, no answer depends on its neighbours in a batch on the CPU; the "
        "fast kernels of CUDA take 32 only (default: 32)",
    )
    add(
        "--equalise",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="even out channels before rounding to integers, which makes it lose half as much "
        "(default: yes)",
    )
    add(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare the folder with the source (default: yes)",
    )
    add("--force", action="store_true", help="replace a model folder that is there")
    add("--version", action="version", version=f"skiff-export {__version__}")
    return parser


def _path(text: str) -> Path:
    if not text:  # which `Path` takes for the current folder
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(text)
