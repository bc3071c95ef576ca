"""What becomes of something that is to be found out where it cannot be: a finding, too.

Knows how things end; does not know what they are.
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
    """What is made, and `unmade` with the reason where that ends early; nothing is begun after
    `until`, which is in `time.monotonic`'s seconds. One thing that fails must not cost the rest: a
    machine with a GPU is there for minutes."""
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
        gc.collect()  # not before the exception is gone, which holds on to decoders
    if note:
        yield replace(unmade, note=note)


def outcome(until: float, unmade: Finding, make: Callable[[], Finding]) -> Finding:
    """The same of one finding."""
    [finding] = outcomes(until, unmade, lambda: [make()])
    return finding
