"""Makes a virtual environment with Skiff in it, or leaves alone one that is current.

Started by `scripts/environment` with a folder's name and a list of extras; uses the standard
library only, as do the modules that it imports from Skiff.
An environment is current when its stamp equals the one that would be written now. The stamp is
written last, so an interrupted or outdated environment is made anew, and a current one costs no
call of pip.
"""

# ruff: noqa: E402 - Ctrl-C in the imports is to be quiet
import signal

# Nothing here needs tidying up, so Ctrl-C may end it where it stands.
if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import configparser
import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from model_tools.pip_failure import pip_failure
from server.model.gpu.cuda_driver import MIN_CUDA, Driver, NoDriver, find_driver  # stdlib only

BEST = "best"
"""Among the extras, it stands for the runtime that this machine can use."""
WHEELS = ("linux", "x86_64")
"""The platform for which the CUDA runtime is installed."""


class EnvironmentFailed(Exception):
    """The environment cannot be made; the message is the line to print."""


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: scripts/environment FOLDER EXTRAS")
    name, told = sys.argv[1:]
    extras = told.replace(BEST, best_runtime(find_driver()) if BEST in told else "")
    folder = ROOT / name
    try:
        if not is_current(folder, extras):
            check(extras)
            with only_one(ROOT / f"{name}.lock", f"waiting for another start to make {name}"):
                if not is_current(folder, extras):
                    make(folder, extras)
    except (EnvironmentFailed, OSError) as error:
        sys.exit(f"cannot make {folder}: {error}")


def best_runtime(
    driver: Driver | NoDriver, system: tuple[str, str] = (sys.platform, platform.machine())
) -> str:
    """Returns its extra. A driver that does not work, or is too old, counts as none."""
    able = isinstance(driver, Driver) and driver.gpus and driver.cuda >= MIN_CUDA
    return "gpu" if able and system == WHEELS else "cpu"


def stamp(folder: Path, extras: str) -> str:
    """All that an environment depends on: this Python, its path, its extras and how it is made."""
    sources = [ROOT / "setup.cfg", Path(__file__)]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
    return "\n".join([sys.version, sys.base_prefix, str(folder), extras, digest.hexdigest()])


def is_current(folder: Path, extras: str) -> bool:
    try:
        written = (folder / "stamp").read_text()
    except OSError:
        return False
    return written == stamp(folder, extras) and (folder / "bin" / "python").exists()


def make(folder: Path, extras: str) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    say(f"Making {folder.name} with Python {version} and skiff-llm[{extras}] ...")
    (folder / "stamp").unlink(missing_ok=True)
    log = folder.with_suffix(".log")
    run([sys.executable, "-m", "venv", "--clear", str(folder)], log)
    # --no-user: a pip.conf that says `user` would otherwise send everything elsewhere.
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    target = ["--use-pep517", "--editable", f"{ROOT}[{extras}]"]
    run([*pip, "install", "--no-user", "--progress-bar", "off", *target], log)
    (folder / "stamp").write_text(stamp(folder, extras))
    log.unlink()


def check(extras: str) -> None:
    """Raises `EnvironmentFailed` for an extra that does not exist, of which pip only warns."""
    setup = configparser.RawConfigParser()
    setup.read(ROOT / "setup.cfg")
    there = setup.options("options.extras_require")
    for extra in extras.split(","):
        if extra not in there:
            raise EnvironmentFailed(f"no extra {extra!r}, only {', '.join([BEST, *there])}")


def run(command: list[str], log: Path) -> None:
    """Runs a program; shows its latest line on a terminal, and keeps all of them in `log`."""
    lines = []
    with (
        log.open("w") as kept,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            close_fds=False,  # it holds the lock, too
        ) as program,
    ):
        for line in program.stdout or ():
            kept.write(line)
            lines.append(line.strip())
            show(line)
    show("")
    if program.returncode != 0:
        reason = pip_failure("\n".join(lines))
        raise EnvironmentFailed(f"{reason} (the whole output: {log})")


def show(line: str) -> None:
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\033[K{line.strip()[:width]}", end="", file=sys.stderr, flush=True)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def only_one(lock: Path, waiting: str) -> Iterator[None]:
    """Holds the lock file for the block. The system releases it however this process ends, once
    the program of `run` has ended, too."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{waiting} ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        os.set_inheritable(file.fileno(), True)
        yield


if __name__ == "__main__":
    main()
