"""A graph in ONNX Runtime, driven by what it declares: the one door to `onnxruntime`.

Knows the graph interface of the model folder; does not know requests, sampling or text.
"""

import math

import numpy as np
from numpy.typing import NDArray

from server.errors import Interrupted, StartError
from server.model.folder import ModelFolder
from server.model.kv_memory import KvMemory, KvShape

try:
    import onnxruntime
except ModuleNotFoundError:
    onnxruntime = None

Tokens = NDArray[np.int64]
Logits = NDArray[np.float32]

_DTYPES: dict[str, np.dtype[np.floating]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
}
_DRIVEN = {"input_ids", "attention_mask", "position_ids", "num_logits_to_keep"}


class OnnxDecoder:
    """A decoder-only model with memory for `slots` sequences of `context` tokens.

    Keys and values are bound as both past and present, so that GroupQueryAttention writes new
    positions in place and a step copies nothing. Decode rows run as `[n, 1]` over the first n slots
    and prompts as `[1, n]` over one: the two shapes whose results do not depend on neighbours.
    """

    def __init__(self, folder: ModelFolder, *, slots: int, context: int, threads: int) -> None:
        """`threads` is the number of cores that one call uses. Raises `StartError`."""
        self.slots = slots
        self.context = context
        self._session = _open(folder, threads)
        self.vocabulary_size = _logits_width(self._session, folder)
        shapes = _kv_shapes(self._session, folder)
        self.tile = _tile(shapes)
        self._fed = _fed_inputs(self._session, folder, shapes)
        self._memory = KvMemory(shapes, slots=slots, capacity=context)
        self._bindings: dict[tuple[int, int], onnxruntime.IOBinding] = {}
        self._run_options = onnxruntime.RunOptions()
        # Buffers that calls are bound to must outlive the call; all are reused.
        self._logits = np.empty((slots, 1, self.vocabulary_size), np.float32)
        self._positions = np.arange(context, dtype=np.int64)
        self._mask = np.ones(slots * context, np.int64)
        self._try_out(folder)

    @property
    def kv_bytes(self) -> int:
        """Bytes that the keys and values of full slots take."""
        return self._memory.nbytes

    def prefill(self, slot: int, past: int, tokens: Tokens, logits_to_keep: int = 1) -> Logits:
        """Reads `tokens` [n] after the slot's first `past` ones.

        Returns the logits of the last `logits_to_keep` tokens, [k, V]; 0 keeps all.
        """
        total = past + len(tokens)
        mask = np.ones((1, total), np.int64)
        positions = self._positions[None, past:total]
        return self._run(slot, tokens[None, :], mask, positions, logits_to_keep)

    def decode(self, tokens: Tokens, pasts: Tokens) -> Logits:
        """One token for each of the slots 0 to n - 1, after `pasts` [n] others; logits [n, V]."""
        rows, total = len(tokens), int(pasts.max()) + 1
        mask = self._mask[: rows * total].reshape(rows, total)
        np.less_equal(self._positions[:total], pasts[:, None], out=mask)
        return self._run(0, tokens[:, None], mask, pasts[:, None], logits_to_keep=1)

    def move(self, source: int, destination: int, length: int) -> None:
        """Takes the first `length` tokens of a slot to a free one, and frees the source."""
        self._memory.move(source, destination, length)

    def release(self, slot: int) -> None:
        """Gives the slot's memory back to the system."""
        self._memory.release(slot)

    def interrupt(self) -> None:
        """Ends the call under way, and each later one, with `Interrupted`; safe from any thread."""
        self._run_options.terminate = True

    def _run(
        self, slot: int, tokens: Tokens, mask: Tokens, positions: Tokens, logits_to_keep: int
    ) -> Logits:
        """Runs tokens [rows, n] on the slots from `slot` on; logits [rows, V] or [k, V]."""
        rows, length = tokens.shape
        binding = self._binding(slot, rows)
        feeds = {
            "input_ids": np.ascontiguousarray(tokens),
            "attention_mask": mask,
            "position_ids": np.ascontiguousarray(positions),
            "num_logits_to_keep": np.array(logits_to_keep, np.int64),
        }
        for name in self._fed:
            # Not `bind_cpu_input`: that one does not know overridable initializers.
            value = onnxruntime.OrtValue.ortvalue_from_numpy(feeds[name])
            binding.bind_ortvalue_input(name, value)
        if length == 1 or (logits_to_keep == 1 and "num_logits_to_keep" in self._fed):
            logits = self._logits[:rows]
            place = ("cpu", 0, np.float32, logits.shape, logits.ctypes.data)
            binding.bind_output("logits", *place)
            self._call(binding)
            return logits[:, 0]
        binding.bind_output("logits", "cpu")
        self._call(binding)
        # Outputs come in the order in which they were first bound: logits after all the others.
        every: Logits = binding.get_outputs()[len(self._memory.buffers)].numpy()
        return every[0, -logits_to_keep:]

    def _try_out(self, folder: ModelFolder) -> None:
        """One call, so that what else is wrong with a graph is told now and not to every client."""
        try:
            self.prefill(0, 0, np.zeros(1, np.int64))
        except Exception as error:  # the runtime's own exceptions have no common base
            raise StartError(f"{folder.model_file}: a first call failed: {_line(error)}") from None
        self.release(0)

    def _call(self, binding: "onnxruntime.IOBinding") -> None:
        try:
            self._session.run_with_iobinding(binding, self._run_options)
        except RuntimeError:
            if self._run_options.terminate:
                raise Interrupted from None
            raise

    def _binding(self, slot: int, rows: int) -> "onnxruntime.IOBinding":
        """Keys and values of `rows` neighbouring slots, bound by address once and kept."""
        binding = self._bindings.get((slot, rows))
        if binding is None:
            binding = self._bindings[slot, rows] = self._session.io_binding()
            for buffer in self._memory.buffers:
                kv = buffer.shape
                shape = (rows, kv.heads, self.context, kv.head_dim)
                place = ("cpu", 0, kv.dtype.type, shape, buffer.address(slot))
                binding.bind_input(kv.past, *place)
                binding.bind_output(kv.present, *place)
        return binding


def _open(folder: ModelFolder, threads: int) -> "onnxruntime.InferenceSession":
    if onnxruntime is None:
        raise StartError(
            "ONNX Runtime is not installed: pip install 'skiff-llm[cpu]' or 'skiff-llm[gpu]'"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # shapes vary, and a pattern is kept for each
    options.log_severity_level = 4  # what goes wrong comes as an exception, and is told once
    try:
        return onnxruntime.InferenceSession(
            folder.model_file, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the runtime's own exceptions have no common base
        raise StartError(
            f"{folder.model_file}: ONNX Runtime cannot load it: {_line(error)}"
        ) from None


def _line(error: Exception) -> str:
    """The first line of a message; that of the runtime may have several."""
    return str(error).partition("\n")[0]


def _fed_inputs(
    session: "onnxruntime.InferenceSession", folder: ModelFolder, shapes: list[KvShape]
) -> list[str]:
    """The inputs besides keys and values that each call feeds."""
    required = {node.name for node in session.get_inputs()} - {shape.past for shape in shapes}
    unknown = required - _DRIVEN
    if unknown or "input_ids" not in required:
        what = f"input `{min(unknown)}` is unknown" if unknown else "has no input `input_ids`"
        raise StartError(f"{folder.model_file}: {what}")
    optional = {node.name for node in session.get_overridable_initializers()}
    return sorted(required | (optional & _DRIVEN))


def _kv_shapes(session: "onnxruntime.InferenceSession", folder: ModelFolder) -> list[KvShape]:
    """The past/present pairs, in the graph's order."""
    shapes = []
    for node in session.get_inputs():
        if not node.name.startswith("past_key_values."):
            continue
        _, heads, _, head_dim = node.shape if len(node.shape) == 4 else [None] * 4
        if node.type not in _DTYPES or not isinstance(heads, int) or not isinstance(head_dim, int):
            raise StartError(f"{folder.model_file}: {node.name} is {node.type} {node.shape}")
        present = node.name.replace("past_key_values.", "present.", 1)
        shapes.append(KvShape(node.name, present, heads, head_dim, _DTYPES[node.type]))
    if not shapes:
        raise StartError(f"{folder.model_file}: has no inputs `past_key_values.*`")
    return shapes


def _tile(shapes: list[KvShape]) -> int:
    """Tokens that every query tile of the CPU's flash attention is a multiple of.

    Its tile is twice the head dimension, or what the L2 cache holds of it: a multiple of 32 on
    every machine that is known.
    """
    return math.gcd(32, *(2 * shape.head_dim for shape in shapes))


def _logits_width(session: "onnxruntime.InferenceSession", folder: ModelFolder) -> int:
    """The size of the vocabulary, as the graph has it."""
    for node in session.get_outputs():
        if node.name == "logits" and node.type == "tensor(float)" and len(node.shape) == 3:
            width = node.shape[2]
            if isinstance(width, int):
                return width
    raise StartError(f"{folder.model_file}: has no float32 output `logits` of known width")
