"""How many cores this process may use. Knows Linux's affinity and cgroups; elsewhere counts cores.

The runtime cuts an operator into one piece per thread and goes on when the last is done. With one
thread more than there are cores, every operator waits for a thread that is not running: on two idle
cores the default model decodes 113, 173 and 34 tokens per second with 1, 2 and 3 threads, and reads
1035, 1744 and 376. Under a cgroup's quota, the kernel stops all threads for the rest of a period
once they have used it up. So the count is the smaller of affinity and quota, not the number of
cores in a shared machine.
"""

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """Return whole cores, at least 1. `root` is where `proc` and `sys` are."""
    quotas = [affinity(), *_v2_quotas(root), *_v1_quotas(root)]
    return max(1, int(min(quotas)))


def affinity() -> int:
    """Return how many cores the scheduler may put this process on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _v2_quotas(root: Path) -> Iterator[float]:
    """`cpu.max` holds "QUOTA PERIOD" or "max PERIOD"; parents bind their children."""
    for group in _groups(root, controller=""):
        words = _read(root / "sys/fs/cgroup" / group / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            yield int(words[0]) / int(words[1])


def _v1_quotas(root: Path) -> Iterator[float]:
    """A quota of -1 is none."""
    for group in _groups(root, controller="cpu"):
        folder = root / "sys/fs/cgroup/cpu" / group
        quota = int(_read(folder / "cpu.cfs_quota_us") or -1)
        period = int(_read(folder / "cpu.cfs_period_us") or 0)
        if quota > 0 and period > 0:
            yield quota / period


def _groups(root: Path, controller: str) -> Iterator[str]:
    """The process's group in this hierarchy and all above it, as relative paths; "" is the top.

    In a container the file may name the group by its path on the host, of which only the top can be
    read there. Callers skip groups that do not exist.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controller in controllers.split(","):
            path = Path(group.lstrip("/"))
            yield from (str(each) for each in (path, *path.parents))


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
