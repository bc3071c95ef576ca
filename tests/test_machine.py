"""The machine's facts, out of files as Linux writes them."""

from pathlib import Path

from server.machine import Machine

CPUINFO = """\
processor\t: 0
model name\t: AMD EPYC 9B45 128-Core Processor
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni

processor\t: 1
model name\t: AMD EPYC 9B45 128-Core Processor
"""
MEMINFO = "MemTotal:       65536 kB\nMemFree:  1 kB\nMemAvailable:   32768 kB\n"


def machine(root: Path, **files: str) -> Machine:
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Machine.read(root)


def test_linux_says_what_there_is(tmp_path: Path) -> None:
    found = machine(
        tmp_path,
        proc__cpuinfo=CPUINFO,
        proc__meminfo=MEMINFO,
        sys__kernel__mm__transparent_hugepage__enabled="always [madvise] never\n",
    )
    assert found.processor == "AMD EPYC 9B45 128-Core Processor"
    assert found.instructions == ("AVX2", "AVX-512", "AVX-512 VNNI")
    assert (found.memory, found.available) == (2**26, 2**25)
    assert found.huge_pages == "madvise"
    assert 1 <= found.usable <= found.affinity <= found.cores


def test_an_arm_machine_has_other_names(tmp_path: Path) -> None:
    found = machine(tmp_path, proc__cpuinfo="Features\t: fp asimd asimddp i8mm\n")
    assert found.instructions == ("dot product", "I8MM")
    assert found.processor


def test_another_system_says_little(tmp_path: Path) -> None:
    found = Machine.read(tmp_path)
    assert found.instructions == ()
    assert (found.memory, found.available, found.huge_pages) == (None, None, None)
    assert found.python.startswith("3.")
