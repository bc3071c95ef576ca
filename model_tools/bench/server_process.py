"""A server to measure, started in a process of its own, as a user starts it.

Knows the command line of `skiff`; sends no requests.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_tools.bench.flags import shell_words
from server.errors import StartError

READY = "Ready at "


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server. Times are those of `time.perf_counter`, in seconds."""

    url: str
    started: float
    """Just before the process was created."""
    ready: float
    """When it said that it was ready."""
    process: int

    @property
    def resident_bytes(self) -> int:
        """Resident memory now (RSS). A page counts in full, once for each mapping, even if other
        processes share it. Raises `StartError` if the server has ended."""
        # Small Linux images have no `ps`, and macOS has no /proc.
        linux = sys.platform == "linux"
        resident = self._of_proc("status", "VmRSS") if linux else self._of_ps()
        if not resident:
            raise StartError("the server has ended")
        return resident

    @property
    def proportional_bytes(self) -> int | None:
        """Proportional memory now (PSS): a page that several processes map counts by its share.
        None where the system does not say. The kernel walks all pages to find it."""
        return self._of_proc("smaps_rollup", "Pss")

    @property
    def anonymous_bytes(self) -> int | None:
        """Resident memory that is not backed by a file; None where the system does not say. Pages
        of files can be read again when needed, and do not grow with what a server holds."""
        return self._of_proc("status", "RssAnon")

    def _of_proc(self, file: str, name: str) -> int | None:
        try:
            lines = Path(f"/proc/{self.process}/{file}").read_text().splitlines()
        except OSError:
            return None
        # A zombie's status has no line about memory.
        return sum(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024

    def _of_ps(self) -> int:
        command = ["ps", "-o", "rss=", "-p", str(self.process)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return int(found.stdout or 0) * 1024


def add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--flags",
        metavar="'FLAGS'",
        type=shell_words,
        default=[],
        help="more flags of skiff, such as --flags='--slots 8 --prefix-cache-mib 32'",
    )


def server_flags(options: Namespace) -> dict[str, str]:
    """The flags, for a report's header."""
    return {"flags of skiff": shlex.join(options.flags) or "none, so that defaults hold"}


@contextmanager
def serving(folder: Path, flags: Sequence[str]) -> Iterator[ServerProcess]:
    """Runs a server on a free port of the loopback until the block is left. Raises `StartError`."""
    command = [sys.executable, "-P", "-m", "server", str(folder)]
    command += ["--inference-address", "127.0.0.1:0", "--ignore-eos", *flags]
    # Its log goes to a file: a pipe that nobody reads would fill up and block the server.
    with tempfile.TemporaryFile("w+") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=_without_flags(), stdout=subprocess.PIPE, stderr=log, text=True
        )
        with process:
            try:
                url = _url(process)
                if not url.startswith("http://"):
                    raise StartError(f"--flags: only TCP without TLS is measured, not {url}")
                yield ServerProcess(url, started, time.perf_counter(), process.pid)
            except EOFError:
                log.seek(0)
                last = (log.read().splitlines() or ["it said nothing"])[-1]
                raise StartError(f"the server did not start: {last}") from None
            finally:
                process.terminate()


def _without_flags() -> dict[str, str]:
    """The environment without variables for flags of skiff, so that the report names every flag."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SKIFF_")}


def _url(process: "subprocess.Popen[str]") -> str:
    """Waits until the server is ready. Raises EOFError if it ends before."""
    for line in process.stdout or ():
        if line.startswith(READY):
            return line.removeprefix(READY).strip()
    raise EOFError
