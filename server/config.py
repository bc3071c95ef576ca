"""The server's configuration, as frozen values. Knows no other module of Skiff."""

from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How a token is chosen from a row of logits. The default is greedy."""

    temperature: float = 0.0
    """0 is greedy: the largest logit, whatever the other fields but `repetition_penalty` say."""
    top_k: int = 0
    """Keep the k largest logits; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of tokens whose probability reaches this."""
    min_p: float = 0.0
    """Drop tokens less probable than this share of the most probable one."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens already in the sequence."""
    seed: int | None = None
    """Two requests with one seed and one prompt get the same tokens; None draws a fresh seed."""


@dataclass(frozen=True, slots=True)
class SamplingChoice:
    """What the operator chose about sampling; a field is None where nothing was chosen."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None

    def over(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return `defaults`, with each field that was chosen in place of its default."""
        chosen = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(
            defaults, **{name: chosen[name] for name in chosen if chosen[name] is not None}
        )


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address to listen on; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class DeviceKind(Enum):
    """What can run a model."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True)
class Device:
    """What runs the model."""

    kind: DeviceKind
    index: int = 0
    """Which one of several, as CUDA counts them."""

    def __str__(self) -> str:
        return "cpu" if self.kind is DeviceKind.CPU else f"{self.kind.value}:{self.index}"


CPU = Device(DeviceKind.CPU)

GAP_STRETCH = 1.8
"""The default of `EngineConfig.gap_stretch`."""


class PrefixReuse(Enum):
    """Whose keys and values a new prompt may start from."""

    PROMPTS = "prompts"
    """What prompts wrote: a request's tokens stay bit-identical alone and beside others."""
    ALL = "all"
    """Also what decoding wrote, which rounds differently."""
    OFF = "off"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A UNIX socket to listen on."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class PrefixCacheConfig:
    """How new prompts reuse the prefixes that other sequences share with them."""

    reuse: PrefixReuse = PrefixReuse.PROMPTS
    capacity: int = 256 * 2**20
    """Bytes of keys and values that are kept from ended sequences."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How many requests wait for the engine, and how long, in seconds."""

    buffered_requests: int = 30
    """Requests that wait for a slot; 503 in band beyond."""
    buffered_seconds: float = 10.0
    """Without a slot; 504 in band after it."""
    progress_seconds: float = 30.0
    """Between signs of progress (prompt begun, part of it read, token); 504 in band after it."""
    call_seconds: float = 60.0
    """For one call into the model; after it the engine counts as lost, and the process exits."""
    drain_seconds: float = 30.0
    """For all that runs and waits at shutdown; 503 in band after it."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What the engine is built with."""

    slots: int
    """Sequences that can run at once."""
    context: int
    """Tokens that one sequence can hold, prompt and answer together."""
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    ignore_eos: bool = False
    """Generate to the limit whatever the model says; for benchmarks."""
    limits: EngineLimits = field(default_factory=EngineLimits)
    prefix_cache: PrefixCacheConfig = field(default_factory=PrefixCacheConfig)
    gap_stretch: float = GAP_STRETCH
    """How many times as long running streams' steps may take while prompts are read; above 1."""
    speculate: int = 0
    """Longest draft, in tokens, that is verified in one call; 0 for none."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What the operator chose about the engine."""

    slots: int
    context: int | None
    """None: the model folder decides."""
    device: Device | None
    """None: the best one that works."""
    kv_bytes: int | None
    """Bytes for keys and values in pages; None: what all slots can need."""
    cuda_graphs: bool
    """Whether decode calls on CUDA are captured once and replayed."""
    threads: int
    """Cores that ONNX Runtime uses."""
    gap_stretch: float
    speculate: int
    """Longest draft, in tokens; 0 for none."""
    ignore_eos: bool


class LogFormat(Enum):
    """How a record of the log is written."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Serving:
    """Where the process listens, and how it logs."""

    inference_address: Address | UnixAddress
    log_level: str
    log_format: LogFormat


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on what clients may ask. Sizes in bytes, times in seconds.

    Each phase of a connection has a deadline of its own, and none spans a whole generation.
    """

    target_bytes: int = 8 * 1024
    """Request target; 414 beyond."""
    header_bytes: int = 16 * 1024
    """All header lines, or all trailer lines, of one request; 431 beyond."""
    header_fields: int = 100
    """431 beyond."""
    body_bytes: int = 2 * 1024 * 1024
    """413 beyond, before reading the body if Content-Length says so."""
    body_chunks: int = 8 * 1024
    """Chunks of one chunked body, 413 beyond: tiny chunks cost far more than their bytes."""
    read_ahead_bytes: int = 4 * 1024
    """Bytes of later requests that are kept while a request is being answered."""
    idle_seconds: float = 15.0
    """For the first byte of a request; the connection is closed after it."""
    head_seconds: float = 10.0
    """From the first byte of a head to its last, whatever arrives in between; 408 after it."""
    body_seconds: float = 30.0
    """From the end of the head to the end of the body; 408 after it."""
    write_seconds: float = 30.0
    """For one write to a client that does not read; the connection is dropped after it."""
    connections: int = 512
    """One more closes the one that waited longest without a request, or gets 503 if none waits."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call."""

    api_key_file: Path | None
    """None: no key is asked for."""
    cors_origins: tuple[str, ...]
    """Origins, as browsers write them, whose pages may use the server."""
    allowed_hosts: tuple[str, ...]
    """Names that the server answers to on a loopback address, besides this machine's own."""
    tls_certificate: Path | None
    """None: no TLS."""
    tls_key: Path | None


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The command line and the environment, merged."""

    model_folder: Path
    serving: Serving
    engine: EngineChoice
    prefix_cache: PrefixCacheConfig
    access: Access
    limits: Limits
    engine_limits: EngineLimits
    sampling: SamplingChoice


@dataclass(frozen=True, slots=True)
class DoctorConfig:
    """What `skiff doctor` is to examine."""

    device: Device | None
    """None: any that works."""
    model_folder: Path | None
