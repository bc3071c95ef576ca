"""What the server was told, as frozen values. Knows no other module of Skiff."""

from dataclasses import dataclass, field, fields, replace
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
    """What the operator said about sampling, field by field; None where nothing was said."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None

    def over(self, defaults: SamplingParameters) -> SamplingParameters:
        """`defaults`, but for what was said."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(defaults, **{name: said[name] for name in said if said[name] is not None})


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address to listen on; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What the engine is built with."""

    slots: int
    """Sequences that can run at once."""
    context: int
    """Tokens of prompt and answer together that one sequence can hold."""
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    ignore_eos: bool = False
    """Generate to the limit whatever the model says; for benchmarks."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The command line and the environment, merged. What is None, the model folder decides."""

    model_folder: Path
    inference_address: Address
    slots: int
    context: int | None
    threads: int
    """Cores that one call into ONNX Runtime uses."""
    sampling: SamplingChoice
    ignore_eos: bool
    log_level: str
