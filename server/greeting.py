"""The lines on the terminal at the start: settings, addresses, and a command to try the server."""

import shlex
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from server import __version__
from server.config import (
    Access,
    Address,
    EngineConfig,
    PrefixCacheConfig,
    PrefixReuse,
    SamplingParameters,
    UnixAddress,
)

SENT = (
    "-H 'Content-Type: application/json'"
    """ -d '{"max_tokens": 40, "raw_prompt": "The capital of France is"}'"""
)
KEY = ' -H "Authorization: Bearer $KEY"'
"""A variable, since a key itself must not get into a terminal's history."""


class PrefixPlace(Enum):
    """Where kept prefixes lie; each value is what follows their size in the greeting."""

    APART = "more"
    WITHIN = "of these"
    """In the memory for keys and values."""


def start_lines(
    folder: Path,
    engine: EngineConfig,
    device: str,
    threads: int,
    kv_bytes: int,
    prefixes: PrefixPlace,
) -> list[str]:
    """The settings that flags, environment and folder led to, by the names of the flags."""
    memory = f"keys and values take up to {_mib(kv_bytes)}"
    ignore_eos = "on" if engine.ignore_eos else "off"
    sizes = f"slots {engine.slots}, context {engine.context} tokens ({memory})"
    return [
        f"skiff {__version__} serves {folder}",
        f"{sizes}, {prefix_cache_words(engine.prefix_cache, prefixes)}",
        f"device {device}",
        f"threads {threads}, speculate {engine.speculate}, ignore-eos {ignore_eos}",
        sampling_line(engine.sampling),
    ]


def prefix_cache_words(config: PrefixCacheConfig, place: PrefixPlace) -> str:
    if config.reuse is PrefixReuse.OFF:
        return "prefix-cache off"
    return f"prefix-cache {config.reuse.value} (up to {_mib(config.capacity)} {place.value})"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def sampling_line(sampling: SamplingParameters) -> str:
    greedy = " (greedy)" if sampling.temperature == 0 else ""
    seed = "fresh" if sampling.seed is None else sampling.seed
    return (
        f"temperature {sampling.temperature:g}{greedy}, top-k {sampling.top_k},"
        f" top-p {sampling.top_p:g}, min-p {sampling.min_p:g},"
        f" repetition-penalty {sampling.repetition_penalty:g}, seed {seed}"
    )


def ready_lines(addresses: Sequence[Address | UnixAddress], access: Access, path: str) -> list[str]:
    """The addresses, and a command for another terminal that continues a text at `path`."""
    scheme = "https" if access.tls_certificate else "http"
    urls = " and ".join(
        f"{scheme}://{address}" if isinstance(address, Address) else str(address)
        for address in addresses
    )
    return [f"Ready at {urls}", _curl(scheme, addresses[0], access, path)]


def _curl(scheme: str, address: Address | UnixAddress, access: Access, path: str) -> str:
    if isinstance(address, UnixAddress):
        there = f"--unix-socket {shlex.quote(address.path)} {scheme}://localhost{path}"
    else:
        there = f"{scheme}://{reachable(address)}{path}"
    # The certificate is for the server's public name, not for the address in this line.
    unsure = " --insecure" if access.tls_certificate else ""
    return f"curl -N{unsure} {there} {SENT}{KEY if access.api_key_file else ''}"


def reachable(address: Address) -> Address:
    """`address`, or its loopback equivalent if it stands for all addresses of this machine."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to
    return Address(local.get(address.host, address.host), address.port)
