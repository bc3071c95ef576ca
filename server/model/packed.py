"""Two graphs of one model, kept with their weights as this processor's kernels want them.

The runtime packs weights for each session that it loads. Packed once and written to a file, they
are mapped by every session that opens it, and lie in memory once. Such a file is good for one kind
of processor and one build of the runtime, which does not check that: so the entry's name does.
"""

import filecmp
import hashlib
import json
import logging
import os
import platform
import re
import shutil
from dataclasses import replace
from pathlib import Path

from server import cache
from server.errors import StartError
from server.model.folder import ModelFolder
from server.model.runtime import PACKED_WEIGHTS, build, save_packed

log = logging.getLogger(__name__)

_FORMAT = 1
"""Of an entry; part of its name."""
_MODEL, _MIXED, _CONTENTS = "model.onnx", "mixed.onnx", "contents.json"
_FILES = (_MODEL, _MIXED, PACKED_WEIGHTS)
_ENTRY = re.compile("[0-9a-f]{16}-[0-9a-f]{16}")
"""Its name: the folder, and what the packed weights depend on."""
CPUINFO = Path("/proc/cpuinfo")
_KIND = re.compile(
    r"^(?:vendor_id|cpu family|model|model name|stepping|flags|Features|CPU \w+)\s*:.*$", re.M
)
"""Lines of it that are alike for processors of one kind."""


class NotPackedError(Exception):
    """The model has to be run without; the message is one line."""


def packed(folder: ModelFolder, place: Path, cpuinfo: Path = CPUINFO) -> ModelFolder:
    """The folder with both of its graphs from the cache at `place`, which gets them first if they
    are not there. Raises `NotPackedError`."""
    try:
        entry = place / f"{_model(folder)}-{_key(folder, cpuinfo)}"
        if not _is_whole(entry):
            with cache.alone(place, _wait) as workspace:
                if not _is_whole(entry):  # nobody else has made it meanwhile
                    _remove_stale(place, _model(folder))
                    _pack(folder, workspace).rename(entry)
    except OSError as error:
        raise NotPackedError(f"{error.filename or place}: {error.strerror or error}") from None
    except StartError as error:
        raise NotPackedError(str(error)) from None
    return replace(folder, model_file=entry / _MODEL, mixed_file=entry / _MIXED)


def _wait() -> None:
    log.info("another process packs weights; waiting for it")


def _model(folder: ModelFolder) -> str:
    return hashlib.sha256(os.fsencode(folder.path.resolve())).hexdigest()[:16]


def _key(folder: ModelFolder, cpuinfo: Path) -> str:
    """Of all that packed weights depend on; the number of threads is not among it."""
    content = [hashlib.sha256(graph.read_bytes()).hexdigest() for graph in _graphs(folder)]
    # Any file beside a graph may be one that it takes weights from.
    beside = [
        (file.name, file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(folder.model_file.parent.iterdir())
    ]
    facts = json.dumps([_FORMAT, build(), _processor(cpuinfo), content, beside])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _graphs(folder: ModelFolder) -> tuple[Path, Path]:
    if folder.mixed_file is None:
        raise NotPackedError(f"{folder.path}: has no second graph")
    return folder.model_file, folder.mixed_file


def _processor(cpuinfo: Path) -> list[str]:
    """All that tells what its kernels are. Raises `NotPackedError`."""
    if not cpuinfo.exists():
        return list(platform.uname())  # on macOS its version names the chip's family
    if kind := sorted(set(_KIND.findall(cpuinfo.read_text()))):
        return [platform.machine(), *kind]
    raise NotPackedError(f"{cpuinfo} does not say which processor this is")


def _is_whole(entry: Path) -> bool:
    """Whether all files are there in full: to read beyond the end of one that is mapped would end
    the process."""
    try:
        sizes = json.loads((entry / _CONTENTS).read_bytes())["sizes"]
        return all((entry / name).stat().st_size == sizes[name] for name in _FILES)
    except (OSError, ValueError, TypeError, LookupError):
        return False


def _remove_stale(place: Path, model: str) -> None:
    """What was kept of the same folder, and of folders that are gone."""
    for entry in place.iterdir():
        if _ENTRY.fullmatch(entry.name) and (entry.name.startswith(model) or _is_orphan(entry)):
            shutil.rmtree(entry)


def _is_orphan(entry: Path) -> bool:
    try:
        return not Path(json.loads((entry / _CONTENTS).read_bytes())["folder"]).is_dir()
    except (OSError, ValueError, TypeError, LookupError):
        return True


def _pack(folder: ModelFolder, workspace: Path) -> Path:
    """A new entry, on disk to its last byte."""
    log.info("packing the weights for this processor, once; later starts find them")
    entry, other = workspace / "entry", workspace / "other"
    for graph, copy in zip(_graphs(folder), (entry / _MODEL, other / _MIXED), strict=True):
        copy.parent.mkdir(mode=0o700)
        save_packed(graph, copy)
    # The runtime writes a file for each; they are alike if the graphs list the same weights.
    if not filecmp.cmp(entry / PACKED_WEIGHTS, other / PACKED_WEIGHTS, shallow=False):
        raise NotPackedError(f"{folder.path}: its two graphs are not of the same weights")
    (other / _MIXED).rename(entry / _MIXED)
    sizes = {name: (entry / name).stat().st_size for name in _FILES}
    contents = {"folder": str(folder.path.resolve()), "sizes": sizes}
    (entry / _CONTENTS).write_text(json.dumps(contents))
    for file in entry.iterdir():
        file.chmod(0o600)
        _write_through(file)
    return entry


def _write_through(file: Path) -> None:
    """So that a loss of power leaves no file of full length without its content."""
    with file.open("rb") as written:
        os.fsync(written.fileno())
