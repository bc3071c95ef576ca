"""The server under torture: a process of its own, seen from outside as an operator sees it (Linux).

Knows the command line and /proc; does not know what is done to the server.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.torture.client import KEY

SLOTS = 4
BUFFERED = 30
CAPACITY = SLOTS + BUFFERED
"""Requests that the server takes at once."""
PHASE_SECONDS = 3
"""Each of the server's deadlines: short, so that a run sees them pass."""
FLAGS = (
    *("--inference-address", "127.0.0.1:0", "--ignore-eos"),
    *("--slots", str(SLOTS), "--buffered-requests", str(BUFFERED)),
    # Small, so that it is full before memory is measured.
    *("--prefix-cache-mib", "16"),
    *(f"--{phase}-timeout={PHASE_SECONDS}" for phase in ("idle", "head", "body", "write")),
)


@dataclass(frozen=True, slots=True)
class Victim:
    """A running server."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    @property
    def alive(self) -> bool:
        """Whether the process is still running."""
        return self.process.poll() is None

    @property
    def open_files(self) -> int:
        return len(list(self._proc.joinpath("fd").iterdir()))

    @property
    def memory(self) -> int:
        """Bytes (PSS): of a page that is shared, this process's share."""
        lines = self._proc.joinpath("smaps_rollup").read_text().splitlines()
        [kilobytes] = [line.split()[1] for line in lines if line.startswith("Pss:")]
        return int(kilobytes) * 1024

    @property
    def loop_seconds(self) -> float:
        """Seconds that the event loop's thread has spent on a core."""
        spent = (
            self._proc.joinpath("task", str(self.process.pid), "schedstat").read_text().split()[0]
        )
        return int(spent) / 1e9

    @property
    def tracebacks(self) -> int:
        """The number of tracebacks in its log."""
        return self.log.read_text(errors="replace").count("Traceback (most recent call last)")

    @property
    def _proc(self) -> Path:
        return Path("/proc", str(self.process.pid))


@contextmanager
def serving(folder: Path, place: Path, threads: int) -> Iterator[Victim]:
    """Run a server for the block. Its key file and its log are in `place`."""
    keys, log = place / "keys", place / "log"
    keys.write_bytes(KEY)
    flags = [*FLAGS, f"--threads={threads}", f"--api-key-file={keys}"]
    command = [sys.executable, "-P", "-m", "server", str(folder), *flags]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            yield Victim(process, _port(process), log)
        finally:
            process.terminate()


def _port(process: subprocess.Popen[str]) -> int:
    for line in process.stdout or ():
        if line.startswith("Ready at http://"):
            return int(line.rpartition(":")[2])
    sys.exit("torture: the server did not start")
