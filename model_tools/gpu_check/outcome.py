"""Turns failures and lack of time into findings, so that the rest still runs.

Knows how checks and measurements fail; does not know what they do.
"""

import gc
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from model_tools.gpu_check.findings import Finding
from model_tools.gpu_check.loaded import DoesNotFit
from server.errors import DeviceLost, StartError
from server.model.runtime import first_line

log = logging.getLogger(__name__)


def outcomes(
    until: float, unmade: Finding, make: Callable[[], Iterable[Finding]]
) -> Iterator[Finding]:
    """Yields the findings of `make`, and `unmade` with the reason if it fails. After `until`, in
    `time.monotonic`'s seconds, yields only `unmade`. One failure must not cost the rest: a machine
    with a GPU is available for minutes only. Raises `DeviceLost`, after which nothing else runs.

    A reason is yielded while the exception still refers to the session: after some failures, ONNX
    Runtime (1.31) ends the process when a session with CUDA graphs is destroyed.
    """
    if time.monotonic() > until:
        yield replace(unmade, note="skipped: no time left", skipped=True)
        return
    try:
        yield from make()
    except DoesNotFit as error:
        yield replace(unmade, note=f"skipped, does not fit: {error}", skipped=True)
    except StartError as error:
        yield replace(unmade, note=f"skipped: {error}", skipped=True)
    except Exception as error:  # the runtime's own exceptions have no common base
        log.exception("%s: %s", unmade.model, unmade.what)
        note = f"failed: {type(error).__name__}: {first_line(error)}"
        yield replace(unmade, note=note, failed=True)
        if isinstance(error, DeviceLost):
            raise
    gc.collect()  # only here: until the exception is gone, it refers to decoders
