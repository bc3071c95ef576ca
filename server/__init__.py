"""Skiff's server: a language model in ONNX Runtime, served over HTTP."""

__version__ = "0.1.0"
