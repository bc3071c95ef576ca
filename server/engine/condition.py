"""Whether the engine takes requests, and if not, why."""

from enum import Enum


class Condition(Enum):
    """Each value is what an operator is told."""

    LOADING = "the model is being loaded"
    READY = "ready"
    DRAINING = "the server is shutting down"
    LOST = "the engine was lost"
