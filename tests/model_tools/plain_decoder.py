"""A Llama-shaped decoder one number at a time, in double precision: as plain as possible."""

import math

from model_tools.decoder_spec import DecoderSpec, LayerWeights, RotarySpec, Weights, WeightSource
from model_tools.verification.reference import Tokens

Vector = list[float]


def plain_logits(source: WeightSource, text: Tokens) -> Vector:
    """The logits after the last token."""
    spec = source.spec
    hidden = [[float(x) for x in source.embedding()[token]] for token in text]
    for index in range(spec.layers):
        hidden = plain_layer(spec, source.layer(index), hidden)
    return product(source.head(), normal(hidden[-1], source.final_norm(), spec.rms_epsilon))


def plain_layer(spec: DecoderSpec, layer: LayerWeights, hidden: list[Vector]) -> list[Vector]:
    """The layer's output for all tokens of a text."""
    inputs = [normal(each, layer.attention_norm, spec.rms_epsilon) for each in hidden]
    queries, keys, values = (
        [heads(product(matrix, each), spec.head_dim) for each in inputs]
        for matrix in (layer.q, layer.k, layer.v)
    )
    for position in range(len(hidden)):
        for head in queries[position] + keys[position]:
            turn(head, position, spec.rotary)
    outputs = []
    for position, before in enumerate(hidden):
        seen: Vector = []
        for number, query in enumerate(queries[position]):
            group = number // (spec.attention_heads // spec.kv_heads)
            seen += attend(
                query,
                [key[group] for key in keys[: position + 1]],
                [value[group] for value in values[: position + 1]],
            )
        middle = added(before, product(layer.o, seen))
        inner = normal(middle, layer.feed_forward_norm, spec.rms_epsilon)
        gate, up = product(layer.gate, inner), product(layer.up, inner)
        gated = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)]
        outputs.append(added(middle, product(layer.down, gated)))
    return outputs


def turn(head: Vector, position: int, rotary: RotarySpec) -> None:
    """Rotates a head in place; pair j is dimensions 2j and 2j + 1."""
    for pair in range(rotary.head_dim // 2):
        factor = rotary.frequency_factors[pair] if rotary.frequency_factors else 1.0
        frequency = rotary.base ** (-2 * pair / rotary.head_dim) / rotary.linear_factor / factor
        angle = position * frequency
        x, y = head[2 * pair], head[2 * pair + 1]
        head[2 * pair] = x * math.cos(angle) - y * math.sin(angle)
        head[2 * pair + 1] = x * math.sin(angle) + y * math.cos(angle)


def attend(query: Vector, keys: list[Vector], values: list[Vector]) -> Vector:
    weights = [math.exp(dot(query, key) / math.sqrt(len(query))) for key in keys]
    return [dot(weights, column) / sum(weights) for column in zip(*values, strict=True)]


def normal(vector: Vector, weight: Weights, epsilon: float) -> Vector:
    size = math.sqrt(dot(vector, vector) / len(vector) + epsilon)
    return [x / size * float(w) for x, w in zip(vector, weight, strict=True)]


def product(matrix: Weights, vector: Vector) -> Vector:
    return [dot(row, vector) for row in matrix.tolist()]


def heads(vector: Vector, size: int) -> list[Vector]:
    return [vector[start : start + size] for start in range(0, len(vector), size)]


def added(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b, strict=True)]


def dot(a: Vector | tuple[float, ...], b: Vector | tuple[float, ...]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
