"""Exporters: a finished run for LiteRT, ONNX Runtime and TensorFlow itself."""

from __future__ import annotations

from finetunekit_builtin.exporters.litert import LitertOptions, build_litert
from finetunekit_builtin.exporters.onnx import OnnxOptions, build_onnx
from finetunekit_builtin.exporters.saved_model import SavedModelOptions, build_saved_model

__all__ = [
    "LitertOptions",
    "OnnxOptions",
    "SavedModelOptions",
    "build_litert",
    "build_onnx",
    "build_saved_model",
]
