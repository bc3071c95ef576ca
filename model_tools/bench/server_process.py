"""A server to measure that is a process of its own, started as its user starts it.

Knows the command line of `skiff`; asks it nothing.
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

from server.errors import StartError

READY = "Ready at "


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server. Times are those of `time.perf_counter`, in seconds."""

    url: str
    started: float
    """Just before there was a process."""
    ready: float
    """When it said that it is."""
    process: int

    @property
    def resident_bytes(self) -> int:
        """Memory that it has now, with each page as often as it is mapped, and in full though other
        processes have it, too. Raises `StartError`."""
        command = ["ps", "-o", "rss=", "-p", str(self.process)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode != 0 or not int(found.stdout):  # one that nobody has waited for has 0
            raise StartError("the server has ended")
        return int(found.stdout) * 1024

    @property
    def proportional_bytes(self) -> int | None:
        """Memory that it has now, each page once, and its share of one that others have, too; None
        where the system does not tell. It is told by a walk over all pages."""
        return self._told("smaps_rollup", "Pss")

    @property
    def anonymous_bytes(self) -> int | None:
        """Of it, what is no page of a file; None where the system does not tell. The rest is
        read again where it is needed, and grows with nothing that a server holds."""
        return self._told("status", "RssAnon")

    def _told(self, file: str, name: str) -> int | None:
        try:
            lines = Path(f"/proc/{self.process}/{file}").read_text().splitlines()
        except OSError:
            return None
        [kilobytes] = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
        return int(kilobytes) * 1024


def add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--flags",
        metavar="'FLAGS'",
        type=shlex.split,
        default=[],
        help="more flags of skiff, such as --flags='--slots 8 --prefix-cache-mib 32'",
    )


def server_flags(options: Namespace) -> dict[str, str]:
    """For a report's header."""
    return {"flags of skiff": shlex.join(options.flags) or "none, so that defaults hold"}


@contextmanager
def serving(folder: Path, flags: Sequence[str]) -> Iterator[ServerProcess]:
    """A server on a free port of the loopback, until the block is left. Raises `StartError`."""
    command = [sys.executable, "-P", "-m", "server", str(folder)]
    command += ["--inference-address", "127.0.0.1:0", "--ignore-eos", *flags]
    # What it logs goes to a file: a pipe that nobody reads would fill, and hold it up.
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
    """The environment without what stands for flags of skiff: a report has all that was said."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SKIFF_")}


def _url(process: "subprocess.Popen[str]") -> str:
    """Raises EOFError where it ends before it is ready."""
    for line in process.stdout or ():
        if line.startswith(READY):
            return line.removeprefix(READY).strip()
    raise EOFError
