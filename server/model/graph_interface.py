"""The interface that a graph declares: names and shapes of inputs and outputs, checked once.

Knows the graph interface of the model folder; takes a session's node descriptions, not a runtime.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from server.errors import StartError
from server.model.kv_shape import KvShape
from server.model.tensor_types import BY_NAME

_KV_TYPES = {"tensor(float)", "tensor(float16)", "tensor(bfloat16)", "tensor(int8)"}
_ALWAYS = {"input_ids"}
_OF_SLOTS = {"attention_mask", "position_ids", "num_logits_to_keep"}
_ALWAYS_OF_PAGES = {"cumulative_sequence_lengths", "past_sequence_lengths", "block_table"}
_OF_PAGES = {"attention_metadata", "num_logits_to_keep"}
"""The inputs that a graph must or may have, with slots and with pages."""
PAGE_TOKENS = 256
"""Tokens in a page, where the graph leaves it open. The tiles of ONNX Runtime's fast kernel have up
to 256 tokens and may not cross into another page (1.31). ONNX Runtime GenAI has the same size."""


class Node(Protocol):
    """An input or output, as ONNX Runtime describes it."""

    @property
    def name(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def shape(self) -> list[int | str | None]: ...


class Session(Protocol):
    """The part of an ONNX Runtime session that describes its graph."""

    def get_inputs(self) -> Sequence[Node]: ...

    def get_overridable_initializers(self) -> Sequence[Node]: ...

    def get_outputs(self) -> Sequence[Node]: ...


@dataclass(frozen=True, slots=True)
class GraphInterface:
    """How to call a graph."""

    kv: tuple[KvShape, ...]
    """The past/present pairs, in the graph's order."""
    fed: frozenset[str]
    """The inputs besides keys and values."""
    vocabulary_size: int
    """The width of `logits`."""
    candidates: int | None = None
    """How many of each row's largest logits it outputs; None if it has no such outputs."""
    page_tokens: int | None = None
    """Tokens in a page of keys and values; None if each sequence's are contiguous."""

    @classmethod
    def of(cls, session: Session, graph: str) -> "GraphInterface":
        """Reads the interface. Raises `StartError`, which names `graph`, if it is not supported."""
        try:
            paged = any(node.name == "block_table" for node in session.get_inputs())
            kv = _kv_shapes(session, paged)
            fed, width = _fed_inputs(session, kv, paged), _logits_width(session)
            return cls(kv, fed, width, _candidates(session), _page_tokens(session, paged))
        except ValueError as error:
            raise StartError(f"{graph}: {error}") from None

    @property
    def keeps_last(self) -> bool:
        """Whether a prefill can be limited to the logits of its last tokens."""
        return "num_logits_to_keep" in self.fed

    @property
    def tile(self) -> int:
        """A number of tokens that divides every query tile of the CPU's flash attention.

        A tile is twice the head dimension, or as many tokens as the L2 cache holds, which is a
        multiple of 32 on every known machine.
        """
        return math.gcd(32, *(2 * shape.head_dim for shape in self.kv))


def _kv_shapes(session: Session, paged: bool) -> tuple[KvShape, ...]:
    shapes = []
    for node in session.get_inputs():
        if not node.name.startswith("past_key_values."):
            continue
        _, before, after, head_dim = node.shape if len(node.shape) == 4 else [None] * 4
        heads = after if paged else before
        if (
            node.type not in _KV_TYPES
            or not isinstance(heads, int)
            or not isinstance(head_dim, int)
        ):
            raise ValueError(f"{node.name} is {node.type} {node.shape}")
        if head_dim % 2:
            raise ValueError(f"{node.name} has heads of an odd size, {head_dim}")
        present = node.name.replace("past_key_values.", "present.", 1)
        kind = BY_NAME[node.type]
        number = None if kind.is_dtype else kind.number
        shapes.append(KvShape(node.name, present, heads, head_dim, kind.dtype, number))
    if not shapes:
        raise ValueError("has no inputs `past_key_values.*`")
    return tuple(shapes)


def _page_tokens(session: Session, paged: bool) -> int | None:
    if not paged:
        return None
    sizes = {
        node.shape[1] if isinstance(node.shape[1], int) else PAGE_TOKENS
        for node in session.get_inputs()
        if node.name.startswith("past_key_values.")
    }
    if len(sizes) > 1:
        raise ValueError(f"has pages of {min(sizes)} and of {max(sizes)} tokens")
    return sizes.pop()


def _fed_inputs(session: Session, kv: tuple[KvShape, ...], paged: bool) -> frozenset[str]:
    needed = _ALWAYS | (_ALWAYS_OF_PAGES if paged else set())
    driven = needed | (_OF_PAGES if paged else _OF_SLOTS)
    required = {node.name for node in session.get_inputs()} - {shape.past for shape in kv}
    if unknown := required - driven:
        raise ValueError(f"input `{min(unknown)}` is unknown")
    if missing := needed - required:
        raise ValueError(f"has no input `{min(missing)}`")
    optional = {node.name for node in session.get_overridable_initializers()}
    return frozenset(required | (optional & driven))


def _logits_width(session: Session) -> int:
    for node in session.get_outputs():
        if node.name == "logits" and node.type == "tensor(float)" and len(node.shape) in (2, 3):
            width = node.shape[-1]
            if isinstance(width, int):
                return width
    raise ValueError("has no float32 output `logits` of known width")


def _candidates(session: Session) -> int | None:
    """Returns k of the outputs that `model_tools.graph.selection` adds; None unless all are
    there."""
    outputs = {node.name: node.shape for node in session.get_outputs()}
    if not {"candidate_logits", "log_sum_exp"} <= outputs.keys():
        return None
    match outputs.get("candidate_ids"):
        case [_, int() as count]:
            return count
        case _:
            return None
