"""What makes a start short, besides what it leaves out: `begin` before imports, `end` when ready.

Imports nothing that takes time.
"""

import gc
import os


def begin() -> None:
    """Puts the collection of garbage off, and leaves NumPy's BLAS one thread: others would spin on
    the cores that load the model."""
    gc.disable()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def end() -> None:
    """Has garbage collected again, but never walks what was made so far, which would hold up
    streams."""
    gc.freeze()
    gc.enable()
