"""`transformers` on torch with the same weights, and torch's profiler for time on the device.

Knows both libraries, which no other part of Skiff needs and which may be missing.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from model_tools.decoder_spec import DecoderSpec, Weights, WeightSource
from model_tools.graph.rotary import half_rotated
from model_tools.verification.comparison import Rows, Tokens
from server.config import Device, DeviceKind

try:
    import torch  # type: ignore[import-not-found, unused-ignore]
    import transformers  # type: ignore[import-not-found, unused-ignore]

    MISSING = ""
except ImportError as error:  # also of a library that torch needs
    torch = transformers = None
    MISSING = f"no torch and transformers ({error}): pip install 'skiff-llm[gpu-check]'"

PRESENT = transformers is not None
_LAYER = {
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn.o_proj": "o",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "feed_forward_norm",
}
"""Fields of `LayerWeights` by modules of a LlamaForCausalLM."""


class Peer:
    """A LlamaForCausalLM on the device; weights are copied one by one."""

    def __init__(self, source: WeightSource, device: Device) -> None:
        self._device = "cpu" if device.kind is DeviceKind.CPU else f"cuda:{device.index}"
        dtype = torch.float32 if device.kind is DeviceKind.CPU else torch.float16
        spec = source.spec
        with _default_dtype(dtype), torch.device(self._device):
            self._model = transformers.LlamaForCausalLM(_config(spec)).eval()
        parameters = dict(self._model.named_parameters())
        self._set(parameters["model.embed_tokens.weight"], source.embedding())
        self._set(parameters["model.norm.weight"], source.final_norm())
        if not spec.tied_embedding:
            self._set(parameters["lm_head.weight"], source.head())
        for index in range(spec.layers):
            weights = source.layer(index)
            for module, field in _LAYER.items():
                array = getattr(weights, field)
                if field in ("q", "k"):
                    array = half_rotated(array, spec.head_dim)
                self._set(parameters[f"model.layers.{index}.{module}.weight"], array)

    def logits(self, text: Tokens) -> Rows:
        """The logits after each token of a text except the last."""
        with torch.inference_mode():
            rows = self._model(self._tensor(text[None, :-1])).logits[0]
        array: Rows = rows.float().cpu().numpy()
        return array

    def tokens_per_second(self, prompt: Tokens, batch: int, new_tokens: int) -> float:
        """Speed of a greedy `generate`, without its first token."""
        inputs = self._tensor(np.repeat(prompt[None], batch, axis=0))
        self._generate(inputs, 2)
        first, all_of_them = self._generate(inputs, 1), self._generate(inputs, new_tokens + 1)
        return batch * new_tokens / (all_of_them - first)

    def _generate(self, inputs: Any, new_tokens: int) -> float:
        self._settle()
        begin = time.perf_counter()
        with torch.inference_mode():
            self._model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                min_new_tokens=new_tokens,
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=0,
            )
        self._settle()
        return time.perf_counter() - begin

    def _settle(self) -> None:
        if self._device != "cpu":
            torch.cuda.synchronize(self._device)

    def _tensor(self, tokens: Tokens) -> Any:
        return torch.from_numpy(np.ascontiguousarray(tokens)).to(self._device)

    @staticmethod
    def _set(parameter: Any, array: Weights) -> None:
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def free_memory() -> None:
    """Frees device memory that torch still caches after a peer is deleted."""
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def device_seconds(run: Callable[[], None]) -> float | None:
    """Runs something and returns the seconds of all kernels and copies on the GPU meanwhile,
    whoever launched them; None without torch or a GPU, or if the profiler saw nothing."""
    if torch is None or not torch.cuda.is_available():
        run()
        return None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        run()
        torch.cuda.synchronize()
    busy = sum(event.device_time_total for event in profile.key_averages())
    return busy * 1e-6 or None


@contextlib.contextmanager
def _default_dtype(dtype: Any) -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _config(spec: DecoderSpec) -> Any:
    return transformers.LlamaConfig(
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.attention_heads,
        num_key_value_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        vocab_size=spec.vocabulary_size,
        max_position_embeddings=spec.context_length,
        rms_norm_eps=spec.rms_epsilon,
        # `rope_parameters` is for version 5, `rope_theta` for version 4.
        rope_parameters={"rope_type": "default", "rope_theta": spec.rotary.base},
        rope_theta=spec.rotary.base,
        tie_word_embeddings=spec.tied_embedding,
        bos_token_id=None,
        eos_token_id=None,
    )
