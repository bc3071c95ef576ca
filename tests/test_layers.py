"""The import rule of ARCHITECTURE.md: downwards, without a circle, and at the top of a file."""

import ast
import graphlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

BASE = {
    "config",
    "cores",
    "errors",
    "greeting",
    "interrupt",
    "log_format",
    "log_writer",
    "metrics",
    "open_files",
    "program",
    "startup",
    "systemd",
}
"""Modules that any other may use."""
MAY_IMPORT = {
    "app": {"api", "http", "engine", "model", "request_log"} | BASE,
    "request_log": {"engine"} | BASE,
    "api": {"http", "engine", "model"} | BASE,
    "http": BASE,
    "engine": {"model"} | BASE,
    "model": BASE,
    "options": BASE,
    "command_line": {"options"} | BASE,
    "findings": {"model", "machine"} | BASE,
    "machine": BASE,
    **dict.fromkeys(BASE, BASE),
}
"""For each package and top-level module of the server, those that it may import."""
COMMAND = {
    "__main__": {"cli"} | BASE,
    "cli": {"app", "doctor", "command_line"} | BASE,
    "doctor": {"findings", "machine", "model"} | BASE,
}
"""The same for modules above the composition root."""

ENGINE_FRONT = (
    "server/engine/engine.py",
    "server/engine/stream.py",
    "server/engine/watched_thread.py",
)
DOORS = {
    "h11": ("server/http/",),
    "onnxruntime": ("server/model/gpu/sessions.py",),
    "tokenizers": ("server/model/tokenizer.py",),
    "trio": ("server/http/", "server/app.py", *ENGINE_FRONT),
    "json": ("server/api/", "server/model/", "server/log_format.py"),
}
"""Libraries, each with the only files of the server that may import it."""
DEFERRED = {
    "server.cli": ["server.doctor"],
    "server.model.opening": ["server.model.gpu.opening", "server.model.gpu.cuda"],
}
"""Imports of what only GPUs need, which takes a CPU's start too long."""
ONE_FILE_OF_MODEL_TOOLS = ("onnxruntime", "tokenizers")


@dataclass(frozen=True)
class Import:
    module: str
    deferred: bool


def module_name(file: Path) -> str:
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {
    module_name(file): file
    for package in ("server", "model_tools")
    for file in sorted((ROOT / package).rglob("*.py"))
}


def imports(file: Path) -> list[Import]:
    """Every module that the file imports, at any depth of its code."""
    tree = ast.parse(file.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    inside = {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, functions)
        for inner in ast.walk(outer)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names = [named(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        found += [Import(name, node in inside) for name in names]
    return found


def named(module: str, name: str) -> str:
    """`from module import name` names a module of ours or something in one."""
    return f"{module}.{name}" if f"{module}.{name}" in MODULES else module


def layer(module: str) -> str:
    """server.http.connection -> http"""
    return module.split(".")[1] if "." in module else ""


SERVER = [name for name in MODULES if name.split(".")[0] == "server"]
MODEL_TOOLS = [name for name in MODULES if name.split(".")[0] == "model_tools"]


@pytest.mark.parametrize("module", [name for name in SERVER if layer(name)])
def test_imports_only_run_down(module: str) -> None:
    allowed = (MAY_IMPORT | COMMAND)[layer(module)] | {layer(module), ""}
    for used in imports(MODULES[module]):
        assert not used.module.startswith("model_tools"), f"{module} imports {used.module}"
        if used.module.split(".")[0] == "server":
            assert layer(used.module) in allowed, f"{module} imports {used.module}"


def test_there_is_no_circle() -> None:
    graph = {
        module: {used.module for used in imports(file) if used.module in MODULES}
        for module, file in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", SERVER)
def test_no_import_is_deferred_but_those_for_gpus(module: str) -> None:
    found = imports(MODULES[module])
    deferred = [used.module for used in found if used.deferred or used.module == "importlib"]
    assert deferred == DEFERRED.get(module, [])


def test_a_server_on_the_cpu_does_not_import_what_is_for_gpus() -> None:
    command = [sys.executable, "-c", "import sys, server.__main__; print(*sys.modules)"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "server.model.cpu.decoder" in loaded
    for_gpus = ("onnxruntime", "server.model.gpu.")
    assert [each for each in loaded if each.startswith(for_gpus)] == []


@pytest.mark.parametrize("vendor", DOORS)
def test_a_vendor_has_one_door(vendor: str) -> None:
    for module in SERVER:
        path = MODULES[module].relative_to(ROOT).as_posix()
        if not path.startswith(DOORS[vendor]):
            used = {each.module.split(".")[0] for each in imports(MODULES[module])}
            assert vendor not in used, path


@pytest.mark.parametrize("vendor", ONE_FILE_OF_MODEL_TOOLS)
def test_model_tools_open_a_door_in_one_file(vendor: str) -> None:
    users = [
        module
        for module in MODEL_TOOLS
        if vendor in {each.module.split(".")[0] for each in imports(MODULES[module])}
    ]
    assert len(users) <= 1, users
