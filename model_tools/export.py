"""From a GGUF file to a model folder: the passes and their order.

Does not know the terminal.
"""

import os
from pathlib import Path

import onnx_ir as ir

from model_tools.decoder_spec import WeightSource
from model_tools.documents.tokenizer_json import build_tokenizer
from model_tools.documents.writer import write_documents
from model_tools.gguf.source import GgufSource
from model_tools.graph.data_file import DataFile
from model_tools.graph.decoder import build_graph
from model_tools.graph.writer import GraphWriter
from model_tools.new_folder import new_folder
from model_tools.progress import Report, steps, unseen
from model_tools.recipe import FloatType, KvLayout, KvType, Recipe, Target, WeightType
from model_tools.verification.reference import Tokens
from model_tools.verification.verify import Verification
from model_tools.verification.verify import verify as verify_folder
from model_tools.verification.verify_weights import WeightsVerification
from model_tools.weights.calibration_text import calibration_texts
from model_tools.weights.equalise import EqualisedSource, equalised
from model_tools.weights.kv_scales import BalancedSource, balanced
from server.errors import StartError

MODEL_FILE = "model.onnx"


def export(
    source: Path,
    folder: Path,
    *,
    target: str = "cpu",
    weights: str | None = None,
    activations: str | None = None,
    block_size: int | None = None,
    kv: str = "float",
    kv_layout: str = "slots",
    equalise: bool | None = None,
    verify: bool = True,
    force: bool = False,
    report: Report = unseen,
) -> Verification | WeightsVerification | None:
    """Writes a whole model folder, or leaves everything as it was and raises StartError.

    `target` is one of `Target`, `weights` of `WeightType`, `activations` of `FloatType`, `kv` of
    `KvType` and `kv_layout` of `KvLayout`; None is the target's default. `block_size`, by
    default 32, and `equalise`, which evens out channels and is on by default, are for weights that
    become integers; `verify` compares the folder with the source before it is put in its place;
    with `force` it replaces an earlier model folder.
    """
    recipe = Recipe.of(
        Target(target),
        WeightType(weights) if weights else None,
        FloatType(activations) if activations else None,
        block_size,
        KvType(kv),
        KvLayout(kv_layout),
    )
    if equalise and not recipe.weights.is_integer:
        raise StartError(f"--equalise has no meaning for weights in {recipe.weights}")
    try:
        opened = GgufSource.open(source)
    except MemoryError as error:
        raise _too_large(source, error) from None
    # `resolve` raises for a loop of links, up to Python 3.12; `realpath` does not.
    if Path(os.path.realpath(folder)) in source.resolve().parents:
        raise StartError(f"{folder} holds the source")
    try:
        with new_folder(folder, mark=MODEL_FILE, replace=force) as unfinished:
            weight_source: WeightSource
            even = recipe.weights.is_integer and equalise is not False
            weight_source = _equalised(opened, report) if even else opened
            if recipe.kv is KvType.INT8:
                weight_source = _balanced(weight_source, opened, report)
            write_model(unfinished, weight_source, recipe, report)
            write_documents(unfinished, opened, recipe, model_file=MODEL_FILE)
            return _verified(unfinished, opened, recipe, report) if verify else None
    except BrokenPipeError:  # nobody reads the progress any more
        raise
    except OSError as error:
        raise StartError(f"{error.filename or folder}: {error.strerror or error}") from error
    except MemoryError as error:
        raise _too_large(source, error) from None


def _too_large(source: Path, error: MemoryError) -> StartError:
    said = f": {error}" if str(error) else ""
    return StartError(f"{source}: there is too little memory to export it{said}")


def write_model(
    folder: Path, source: WeightSource, recipe: Recipe, report: Report = unseen
) -> None:
    """Writes the graph and its weights into an existing folder."""
    layer_done = steps(report, "writing layers", source.spec.layers)
    with DataFile(folder / f"{MODEL_FILE}.data") as data:
        scales = source.scales if isinstance(source, BalancedSource) else None
        writer = GraphWriter(data, recipe.activations.onnx, recipe.target.opset)
        model = build_graph(source, recipe, writer, layer_done, scales)
    ir.save(model, folder / MODEL_FILE)


def _equalised(source: GgufSource, report: Report) -> EqualisedSource:
    done = steps(report, "measuring channels", source.spec.layers)
    return equalised(source, _calibration(source), done)


def _balanced(source: WeightSource, opened: GgufSource, report: Report) -> BalancedSource:
    done = steps(report, "measuring keys and values", source.spec.layers)
    return balanced(source, _calibration(opened), done)


def _calibration(source: GgufSource) -> list[Tokens]:
    tokenizer = build_tokenizer(source.metadata.vocabulary)
    return list(calibration_texts(source.spec, lambda text: tokenizer.encode(text).ids))


def _verified(
    folder: Path, source: WeightSource, recipe: Recipe, report: Report
) -> Verification | WeightsVerification:
    verified = steps(report, "verifying", 1)
    verification = verify_folder(folder, source, recipe)
    verified()
    return verification
