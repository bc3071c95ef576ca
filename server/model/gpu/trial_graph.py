"""A tiny graph to try a device with: y = relu(x @ x), one matrix product that a library computes
and one kernel of the runtime's own.

It is kept as the bytes of an ONNX model, since the server cannot write one.
"""

SIDE = 8
"""x and y are float32 [SIDE, SIDE]."""
TRIAL_GRAPH = (
    b'\x08\n:z\n\x1a\n\x01x\n\x01x\x12\x01p\x1a\x07product"\x06MatMul'
    b'\n\x16\n\x01p\x12\x01y\x1a\x08positive"\x04Relu\x12\x05trial'
    b"Z\x13\n\x01x\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x08\n\x02\x08\x08"
    b"b\x13\n\x01y\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x08\n\x02\x08\x08"
    b"j\x13\n\x01p\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x08\n\x02\x08\x08B\x04\n\x00\x10\x15"
)
