"""What this machine has for running a model, besides devices.

Knows Linux's /proc and /sys; knows little about other systems.
"""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from server.cores import affinity, usable_cores

_HUGE_PAGES = "sys/kernel/mm/transparent_hugepage/enabled"
_INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "amx_int8": "AMX",
    "asimddp": "dot product",
    "i8mm": "I8MM",
    "sve": "SVE",
}
"""Instructions that kernels for integer weights use, by the Linux kernel's names."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts; None for what the system does not report."""

    python: str
    processor: str
    instructions: tuple[str, ...]
    cores: int
    """In the machine."""
    affinity: int
    """Cores that this process may be put on."""
    usable: int
    """Cores that this process may use, after quotas, too."""
    memory: int | None
    """Bytes."""
    available: int | None
    """Bytes that programs can have without swapping."""
    huge_pages: str | None
    """always, madvise or never."""

    @classmethod
    def read(cls, root: Path = Path("/")) -> "Machine":
        """Reads the facts; `root` is where `proc` and `sys` are."""
        cpu = _text(root / "proc/cpuinfo")
        memory = _text(root / "proc/meminfo")
        flags = set((_field(cpu, "flags") or _field(cpu, "Features") or "").split())
        chosen = re.search(r"\[(\w+)\]", _text(root / _HUGE_PAGES))
        return cls(
            python=platform.python_version(),
            processor=_field(cpu, "model name") or platform.machine(),
            instructions=tuple(name for flag, name in _INSTRUCTIONS.items() if flag in flags),
            cores=os.cpu_count() or 1,
            affinity=affinity(),
            usable=usable_cores(root),
            memory=_kibibytes(memory, "MemTotal"),
            available=_kibibytes(memory, "MemAvailable"),
            huge_pages=chosen[1] if chosen else None,
        )


def _field(text: str, name: str) -> str | None:
    match = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else None


def _kibibytes(text: str, name: str) -> int | None:
    value = _field(text, name)
    return int(value.split()[0]) * 1024 if value else None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
