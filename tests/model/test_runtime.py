"""What is asked of the runtime without importing it, and of its errors."""

import sys
from pathlib import Path

import onnxruntime
import pytest

from server.errors import StartError
from server.model.runtime import first_line, library, runtime_version


def test_its_version_is_the_one_that_it_says_when_it_is_imported() -> None:
    assert runtime_version() == onnxruntime.__version__


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the module, of version 1.31.1."""
    folder = tmp_path / "onnxruntime"
    (folder / "capi").mkdir(parents=True)
    (folder / "__init__.py").write_text('import contextlib\n\n__version__ = "1.31.1"\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime")
    return folder


def test_of_two_libraries_the_one_of_the_installed_version_is_taken(package: Path) -> None:
    for version in ("1.31.1", "1.32.0"):
        (package / "capi" / f"libonnxruntime.so.{version}").touch()
    assert library() == package / "capi" / "libonnxruntime.so.1.31.1"


def test_a_nightly_build_has_the_library_of_its_release(package: Path) -> None:
    (package / "__init__.py").write_text('__version__ = "1.33.0.dev20261101001"\n')
    (package / "capi" / "libonnxruntime.1.33.0.dylib").touch()
    assert library() == package / "capi" / "libonnxruntime.1.33.0.dylib"


def test_a_build_without_the_library_is_named(package: Path) -> None:
    with pytest.raises(StartError, match=r"has no libonnxruntime\.so\.1\.31\.1 or "):
        library()


def test_without_the_module_there_is_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if no path had it
    assert runtime_version() is None
    with pytest.raises(StartError, match="ONNX Runtime is not installed"):
        library()


def test_of_a_message_what_matters_is_left() -> None:
    said = (
        "/src/a.cc:63 f(const O&) [ONNXRuntimeError] : 1 : FAIL : /src/b.cc:7 g()"
        " [ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : CUDA failure 36: not supported \nmore"
    )
    assert first_line(RuntimeError(said)) == "CUDA failure 36: not supported"
    said = "static f() [with T = cudaError] CUDNN failure 1001: NOT_READY ; GPU=0 ; hostname=a"
    assert first_line(RuntimeError(said)) == "CUDNN failure 1001: NOT_READY"
    assert first_line(RuntimeError("plain")) == "plain"
