"""Calls of a second graph of the same model: decode rows and a chunk of a prompt in one call.

Knows the interface of `mixed.onnx`; does not know what else its decoder calls.
"""

from pathlib import Path

import numpy as np

from server.errors import StartError
from server.model.cpu.host_graph import HostBinding, HostGraph, SharedWeights, make_room
from server.model.cpu.kv_memory import KvMemory
from server.model.tensor_types import Logits, Tokens

_FED = {"input_ids", "attention_mask", "prompt_mask", "prompt_logits_to_keep"}


class MixedCalls:
    """Calls over decode rows in the first slots and a chunk of a prompt in a slot above them.

    Only attention is done apart for the two, since the operator takes no rows of different lengths.
    The matrices see one row for each token, [1, n + len(prompt)], so the weights are read once.
    """

    def __init__(
        self, model_file: Path, memory: KvMemory, threads: int, weights: SharedWeights | None
    ) -> None:
        """Raises `StartError`."""
        self.graph = HostGraph(model_file, threads, weights)
        self._memory = memory
        self._bindings: dict[tuple[int, int], HostBinding] = {}
        """By the number of rows and the prompt's slot."""
        fed = {node.name for node in self.graph.get_inputs()}
        if missing := _FED - fed:
            raise StartError(f"{model_file}: has no input `{min(missing)}`")

    def bound(
        self,
        tokens: list[int],
        pasts: list[int],
        slot: int,
        past: int,
        prompt: Tokens,
        logits: Logits,
    ) -> HostBinding:
        """Binds the inputs and outputs of one call. Arguments are as in `Decoder.mixed`; `logits`
        is [n + k, V], with rows for the last k tokens of the prompt, which may be 0."""
        rows, total = len(tokens), past + len(prompt)
        if (rows, slot) not in self._bindings:
            make_room(self._bindings)
            self._bindings[rows, slot] = self._binding(rows, slot)
        binding = self._bindings[rows, slot]
        width = np.arange(max(pasts) + 1)
        binding.input("input_ids", np.concatenate([tokens, prompt])[None, :])
        binding.input("attention_mask", (width <= np.array(pasts)[:, None]).astype(np.int64))
        binding.input("prompt_mask", np.ones((1, total), np.int64))
        binding.input("prompt_logits_to_keep", np.array(len(logits) - rows, np.int64))
        binding.output("logits", logits[None])
        return binding

    def _binding(self, rows: int, slot: int) -> HostBinding:
        binding = self.graph.binding()
        for buffer in self._memory.buffers:
            past, present = buffer.shape.past, buffer.shape.present
            binding.in_place(past, present, buffer.array[:rows])
            prompt = buffer.array[slot : slot + 1]
            binding.in_place(_prompt_name(past), _prompt_name(present), prompt)
        return binding


def _prompt_name(name: str) -> str:
    """Returns `prompt_past.0.key` for `past_key_values.0.key`."""
    return f"prompt_{name.replace('_key_values', '', 1)}"
