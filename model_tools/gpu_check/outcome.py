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
from server.errors import StartError
from server.model.runtime import first_line

log = logging.getLogger(__name__)


def outcomes(
    until: float, unmade: Finding, make: Callable[[], Iterable[Finding]]
) -> Iterator[Finding]:
    """Yields the findings of `make`, and `unmade` with the reason if it fails. After `until`, in
    `time.monotonic`'s seconds, yields only `unmade`. One failure must not cost the rest: a machine
    with a GPU is available for minutes only."""
    note = ""
    if time.monotonic() > until:
        note = "skipped: no time left"
    else:
        try:
            yield from make()
        except DoesNotFit as error:
            note = f"skipped, does not fit: {error}"
        except StartError as error:
            note = f"skipped: {error}"
        except Exception as error:  # the runtime's own exceptions have no common base
            log.exception("%s: %s", unmade.model, unmade.what)
            note = f"failed: {type(error).__name__}: {first_line(error)}"
        gc.collect()  # only here: until the exception is gone, it refers to decoders
    if note:
        yield replace(unmade, note=note)


def outcome(until: float, unmade: Finding, make: Callable[[], Finding]) -> Finding:
    """The same for a single finding."""
    [finding] = outcomes(until, unmade, lambda: [make()])
    return finding
