"""The command line of `scripts/gpu_check`."""

import argparse
import gc
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from model_tools.bench.flags import checked, not_negative
from model_tools.bench.machine import machine
from model_tools.bench.report.formats import as_json, as_table
from model_tools.bench.report.saved import check_writable
from model_tools.default_model import kept_file
from model_tools.gpu_check.findings import Finding, as_report
from model_tools.gpu_check.parts import PARTS
from model_tools.gpu_check.setting import Setting
from model_tools.gpu_check.shapes import ON_A_GPU, REHEARSAL
from model_tools.progress import Progress
from server.config import Device, DeviceKind
from server.errors import DeviceLost, StartError
from server.interrupt import unwind_at
from server.model.gpu.cuda import find_cuda
from server.model.gpu.cuda_driver import Driver
from server.options.values import device
from server.program import Parser, program


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; exits with an error message where it cannot, or where a check failed or
    there was none."""
    with program("gpu_check"):
        unwind_at(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        _run(_parser().parse_args(arguments))


def _run(options: argparse.Namespace) -> None:
    gc.freeze()  # as the server does: collections skip what was imported
    check_writable(options.json)
    where = options.device or Device(DeviceKind.CUDA)
    header = machine() | _device_header(where)
    findings: list[Finding] = []
    try:
        _run_parts(options, where, header, findings)
    except DeviceLost as error:
        _show(header, findings)
        sys.stdout.flush()
        _say(f"gpu_check: the rest is left out: {error}")
        os._exit(1)  # the destructors of sessions with CUDA graphs would abort the process
    _show(header, findings)
    if failed := [f"{each.model}: {each.what}" for each in findings if each.failed]:
        raise StartError(f"failed: {'; '.join(failed)}")
    if all(each.skipped for each in findings):
        *_, last = findings
        raise StartError(f"nothing was checked or measured; the last, {last.model}: {last.note}")


def _run_parts(
    options: argparse.Namespace, where: Device, header: dict[str, str], findings: list[Finding]
) -> None:
    """Adds each finding to `findings`, and writes all of them. Raises `DeviceLost`, and
    `StartError`."""
    with tempfile.TemporaryDirectory(prefix="gpu_check.") as temporary:
        models = options.models or Path(temporary)
        _make(models)
        for part in options.part or PARTS:
            setting = Setting(
                device=where,
                scale=REHEARSAL if where.kind is DeviceKind.CPU else ON_A_GPU,
                models_folder=models,
                begun=time.monotonic(),
                seconds=60 * options.minutes,
                report=_say_stage,
                default_model=options.gguf,
            )
            for finding in PARTS[part](setting):
                findings.append(finding)
                _say(f"{finding.model}: {finding.what} {finding.note}")
                _write(options.json, header, findings)  # each time, in case the rest fails


def _show(header: dict[str, str], findings: list[Finding]) -> None:
    print(as_table(as_report("gpu_check", header, findings)), end="")


def _device_header(where: Device) -> dict[str, str]:
    """The device, for a report's header. Raises `StartError` if it is not available."""
    if where.kind is DeviceKind.CPU:
        return {"device": "cpu: a rehearsal on a tiny model; nothing of CUDA was run"}
    facts = find_cuda(where)
    if facts.obstacle:
        raise StartError(f"{where} is not available: {facts.obstacle}")
    gpus = facts.driver.gpus if isinstance(facts.driver, Driver) else ()
    names = [gpu.name for gpu in gpus]
    return {"device": f"{where}: {names[where.index]}" if where.index < len(names) else str(where)}


def _make(folder: Path) -> None:
    """Raises `StartError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"{folder}: {error.strerror}") from None


def _write(file: Path, header: dict[str, str], findings: list[Finding]) -> None:
    """Raises `StartError`."""
    try:
        file.write_text(as_json(as_report("gpu_check", header, findings)), encoding="utf-8")
    except OSError as error:
        raise StartError(f"{file}: cannot be written: {error.strerror}") from None


def _say_stage(progress: Progress) -> None:
    if progress.done == 0:
        _say(f"{progress.stage} ...")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="gpu_check",
        description="Checks and measures Skiff on a GPU, with models that it makes on the spot.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--device",
        type=checked(device),
        default="cuda",
        help="cuda, cuda:N, or cpu to rehearse on a tiny model (default: cuda)",
    )
    add(
        "--part",
        choices=list(PARTS),
        action="append",
        help="part to run; may be repeated (default: all)",
    )
    add(
        "--gguf",
        metavar="FILE",
        type=Path,
        default=_kept_gguf(),
        help="SmolLM2, to check as well (default: what scripts/serve has downloaded, if it has)",
    )
    add(
        "--models",
        metavar="FOLDER",
        type=Path,
        help="folder to make models in, for later runs to reuse (default: a temporary one)",
    )
    add(
        "--json",
        metavar="FILE",
        type=Path,
        default=Path("gpu_check.json"),
        help="file for the results as JSON (default: gpu_check.json)",
    )
    add(
        "--minutes",
        metavar="N",
        type=not_negative,
        default=7.0,
        help="limit for each part; it then begins nothing more and lists what is left (default: 7)",
    )
    return parser


def _kept_gguf() -> Path | None:
    with suppress(StartError, OSError):  # there is no home directory, or nobody may look into it
        if (kept := kept_file()).exists():
            return kept
    return None


if __name__ == "__main__":
    main()
