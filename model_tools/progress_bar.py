"""Shows progress on stderr: a bar on a terminal, a line per stage elsewhere."""

import sys
from typing import Self

from tqdm import tqdm

from model_tools.progress import Progress


class ProgressBar:
    """A `Report` and a context manager that leaves the terminal in order."""

    def __init__(self) -> None:
        self._bar: tqdm[None] | None = None

    def __call__(self, progress: Progress) -> None:
        if not sys.stderr.isatty():
            if progress.done == 0:
                print(f"{progress.stage} ...", file=sys.stderr, flush=True)
            return
        if progress.done == 0:
            self._close()
            self._bar = tqdm(desc=progress.stage, total=progress.total, leave=True)
        elif self._bar is not None:
            self._bar.update(progress.done - self._bar.n)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
