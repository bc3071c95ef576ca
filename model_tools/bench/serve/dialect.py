"""Formats of requests and of lines of answers, by kind of server. Sans-IO.

Knows wire formats; does not know HTTP or time.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from model_tools.bench.serve.prompts import Request


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of every request, as far as a dialect can express them."""

    model: str
    temperature: float
    ignore_eos: bool
    cache_prompt: bool


TO_THE_LIMIT = Settings(model="default", temperature=0.0, ignore_eos=True, cache_prompt=False)
"""Greedy answers that ignore the end of text."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one line of an answer says."""

    tokens: int = 0
    """Tokens in the line: 1 for any text, if the line does not say."""
    total: int | None = None
    """Tokens of the whole answer, where the server counts them."""
    done: bool = False
    """The answer is complete."""
    code: int | None = None
    """An error's code, as an HTTP status."""
    reason: str = ""


class Dialect(Protocol):
    """A route of a kind of server, and its formats."""

    path: str
    asks_for: frozenset[str]
    """Names of the fields of `Settings` that its requests can carry."""

    def body(self, request: Request, settings: Settings) -> dict[str, object]: ...

    def read(self, line: bytes) -> Said:
        """Parses a line. Raises ValueError, LookupError or TypeError if it is not the dialect's."""


class Paddler:
    """Skiff's and Paddler's raw prompts. The legacy and the v4 envelope differ in answers only, and
    there unmistakably."""

    path = "/api/v1/continue_from_raw_prompt"
    asks_for: frozenset[str] = frozenset()

    def body(self, request: Request, settings: Settings) -> dict[str, object]:  # noqa: ARG002 of the protocol
        """Has no field for `settings`: sampling is configured in the server."""
        return {"max_tokens": request.max_tokens, "raw_prompt": request.prompt}

    def read(self, line: bytes) -> Said:
        if not line:
            return Said()
        envelope = json.loads(line)
        if "Error" in envelope:
            error = envelope["Error"]["error"]
            return Said(code=error["code"], reason=str(error["description"]))
        generated = envelope["Response"]["response"]["GeneratedToken"]
        if generated == "Done":
            return Said(done=True)
        [(kind, payload)] = generated.items()
        if kind == "Done":
            usage = payload.get("usage", {})
            kinds = [count for name, count in usage.items() if name in _ANSWER]
            return Said(done=True, total=sum(kinds) if kinds else None)
        if kind.endswith("Token"):
            return Said(tokens=1 if payload else 0)
        return Said(code=500, reason=f"{kind}: {payload}")


_ANSWER = ("content_tokens", "reasoning_tokens", "tool_call_tokens", "undeterminable_tokens")


class OpenAi:
    """OpenAI's completions, as vLLM, SGLang and llama-server offer them, too."""

    path = "/v1/completions"
    asks_for = frozenset({"model", "temperature", "ignore_eos"})

    def body(self, request: Request, settings: Settings) -> dict[str, object]:
        return {
            **self._asked(request),
            "model": settings.model,
            "temperature": settings.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            # Not OpenAI's own: vLLM's, SGLang's and llama-server's.
            **({"ignore_eos": True} if settings.ignore_eos else {}),
        }

    def read(self, line: bytes) -> Said:
        data = _event_data(line)
        if data is None:
            return Said()
        if data == b"[DONE]":
            return Said(done=True)
        chunk = json.loads(data)
        if "error" in chunk:
            return _error(chunk["error"])
        usage = chunk.get("usage") or {}
        text = any(map(self._text, chunk.get("choices", ())))
        return Said(tokens=int(text), total=_count(usage.get("completion_tokens")))

    def _asked(self, request: Request) -> dict[str, object]:
        return {"prompt": request.prompt, "max_tokens": request.max_tokens}

    def _text(self, choice: Mapping[str, Any]) -> bool:
        return bool(choice.get("text"))


class OpenAiChat(OpenAi):
    """OpenAI's chat completions."""

    path = "/v1/chat/completions"

    def _asked(self, request: Request) -> dict[str, object]:
        messages = [{"role": "user", "content": request.prompt}]
        return {"messages": messages, "max_completion_tokens": request.max_tokens}

    def _text(self, choice: Mapping[str, Any]) -> bool:
        delta = choice.get("delta") or {}
        return any(delta.get(name) for name in ("content", "reasoning_content", "tool_calls"))


class Llama:
    """llama-server's native completion."""

    path = "/completion"
    asks_for = frozenset({"temperature", "ignore_eos", "cache_prompt"})

    def body(self, request: Request, settings: Settings) -> dict[str, object]:
        return {
            "prompt": request.prompt,
            "n_predict": request.max_tokens,
            "temperature": settings.temperature,
            "ignore_eos": settings.ignore_eos,
            "cache_prompt": settings.cache_prompt,
            "stream": True,
        }

    def read(self, line: bytes) -> Said:
        if line.startswith(b"error:"):
            return _error(json.loads(line.removeprefix(b"error:")))
        data = _event_data(line)
        if data is None:
            return Said()
        chunk = json.loads(data)
        if "error" in chunk:
            return _error(chunk["error"])
        tokens = len(chunk.get("tokens") or ()) or int(bool(chunk["content"]))
        return Said(tokens=tokens, total=_count(chunk.get("tokens_predicted")), done=chunk["stop"])


DIALECTS: dict[str, Dialect] = {
    "paddler": Paddler(),
    "openai": OpenAi(),
    "openai-chat": OpenAiChat(),
    "llama": Llama(),
}


def _event_data(line: bytes) -> bytes | None:
    """A server-sent event's data; None for its other fields, and for the lines between events."""
    return line.removeprefix(b"data:").strip() if line.startswith(b"data:") else None


def _count(tokens: object) -> int | None:
    """A server's own count. Raises TypeError if it is no number."""
    if tokens is None or isinstance(tokens, int):
        return tokens
    raise TypeError(f"{tokens!r} is no number of tokens")


def _error(error: Mapping[str, Any]) -> Said:
    code = error.get("code")
    return Said(code=code if isinstance(code, int) else 500, reason=str(error.get("message", "")))
